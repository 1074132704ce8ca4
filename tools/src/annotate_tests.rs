//! Annotated copies say what `list` says, and keep what was there.

use netstack_sim::{HostSpec, LinkSpec, Loss};

use crate::filter::Filter;
use crate::testing::{examine, packets, plain_link, simulate};

#[test]
fn comments_say_what_analysis_says() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pcapng"), folder.path().join("out.pcapng"));
    let link = LinkSpec { loss: Loss::Random { ppm: 30_000 }, ..plain_link() };
    let file = simulate(2, 100_000, link, &HostSpec::default()).file;
    std::fs::write(&from, &file).unwrap();
    super::run(&from, &to, &Filter::default()).unwrap();
    let (examined, _) = examine(packets(file));
    let annotated = packets(std::fs::read(&to).unwrap());
    assert_eq!(annotated.len(), examined.len());
    let mut retransmissions = 0;
    for (packet, examined) in annotated.iter().zip(&examined) {
        assert_eq!((&packet.data, packet.time), (&examined.packet.data, examined.packet.time));
        let comment = packet.comments.join("\n");
        assert!(comment.contains("flow: 0"), "{comment}");
        for note in examined.judgement.texts() {
            assert!(comment.contains(&format!("note: {note}")), "{comment}");
        }
        retransmissions += usize::from(comment.contains("retransmission"));
    }
    assert!(retransmissions > 0);
}

//! `/proc/sys/net/ipv4/tcp_*`: the settings of the network stack, which take effect for connections to come
//! (`ip-sysctl` in the kernel's documentation says what they mean).

use std::array;
use std::sync::Arc;
use std::time::Duration;

use netstack::tcp::{
    Algorithm, BufferSizes, Config, EcnMode, FastOpenKeys, FastOpenModes, MtuProbing, SynCookies,
};

use crate::errno::Errno;
use crate::fs::proc::sys_net::{Whose, bit, number, words};
use crate::fs::pseudo::{Text, TextInode};
use crate::kernel::Kernel;
use crate::task::Task;
use crate::vfs::Inode;

/// The files, in any order.
pub(super) fn files(kernel: &Arc<Kernel>) -> Vec<(&'static str, Arc<Inode>)> {
    let file = |row: &'static Row| {
        let setting = Setting { whose: Whose::First(Arc::downgrade(kernel)), row };
        (row.name, TextInode::inode(if row.set.is_some() { 0o644 } else { 0o444 }, setting))
    };
    ROWS.iter().map(file).collect()
}

/// Shows a setting.
type Get = fn(&Config) -> String;
/// Changes it as the text says.
type Set = fn(&mut Config, &str) -> Result<(), Errno>;

/// One setting.
struct Row {
    name: &'static str,
    get: Get,
    set: Option<Set>,
}

/// A setting as a file.
struct Setting {
    whose: Whose,
    row: &'static Row,
}

impl Text for Setting {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let text = (self.row.get)(&self.whose.namespace()?.stack().tcp_config());
        Ok(format!("{text}\n").into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let set = self.row.set.ok_or(Errno::EACCES)?;
        let text = words(data)?;
        let namespace = self.whose.namespace()?;
        namespace.check_configurable()?;
        namespace.stack().change_tcp_config(|config| set(config, text))
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        Some(Arc::new(Self { whose: Whose::of(task)?, ..*self }))
    }
}

const fn row(name: &'static str, get: Get, set: Set) -> Row {
    Row { name, get, set: Some(set) }
}

fn byte(text: &str, least: u8, most: u8) -> Result<u8, Errno> {
    let value = number(text, least.into()..=most.into())?;
    u8::try_from(value).map_err(|_| Errno::EINVAL)
}

fn is_on(text: &str) -> Result<bool, Errno> {
    number(text, 0..=255).map(|value| value != 0)
}

/// A segment size: at least what `TCP_MIN_SND_MSS` says.
fn size(text: &str) -> Result<u16, Errno> {
    u16::try_from(number(text, 48..=65_535)?).map_err(|_| Errno::EINVAL)
}

fn seconds(text: &str) -> Result<Duration, Errno> {
    number(text, 0..=i32::MAX.unsigned_abs()).map(|value| Duration::from_secs(value.into()))
}

fn sizes(text: &str) -> Result<BufferSizes, Errno> {
    let values: Vec<u32> = text
        .split_whitespace()
        .map(|word| number(word, 1..=i32::MAX.unsigned_abs()))
        .collect::<Result<_, _>>()?;
    match values[..] {
        [min, default, max] => Ok(BufferSizes { min, default, max }),
        _ => Err(Errno::EINVAL),
    }
}

fn triple(sizes: BufferSizes) -> String {
    let BufferSizes { min, default, max } = sizes;
    format!("{min}\t{default}\t{max}")
}

fn algorithms() -> String {
    Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(" ")
}

/// What `tcp_fastopen_key` shows before anybody has set one.
const NO_KEY: &str = "00000000-00000000-00000000-00000000";

/// Four words of a key in hexadecimal, with a comma before those of a second one (`proc_tcp_fastopen_key`).
fn show_keys(keys: FastOpenKeys) -> String {
    let show = |key: [u8; 16]| {
        let word = |at: usize| format!("{:08x}", u32::from_le_bytes(array::from_fn(|i| key[at + i])));
        [word(0), word(4), word(8), word(12)].join("-")
    };
    let primary = show(keys.primary);
    keys.backup.map_or_else(|| primary.clone(), |backup| format!("{primary},{}", show(backup)))
}

fn parse_keys(text: &str) -> Result<FastOpenKeys, Errno> {
    let parse = |text: &str| {
        let words: Vec<&str> = text.split('-').collect();
        let mut key = [0; 16];
        if words.len() != 4 {
            return Err(Errno::EINVAL);
        }
        for (chunk, word) in key.chunks_exact_mut(4).zip(words) {
            let word = u32::from_str_radix(word, 16).map_err(|_| Errno::EINVAL)?;
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(key)
    };
    match text.split_once(',') {
        Some((primary, backup)) => {
            Ok(FastOpenKeys { primary: parse(primary)?, backup: Some(parse(backup)?) })
        }
        None => Ok(FastOpenKeys { primary: parse(text)?, backup: None }),
    }
}

const ROWS: &[Row] = &[
    row(
        "tcp_abort_on_overflow",
        |config| bit(config.abort_on_overflow),
        |config, text| is_on(text).map(|on| config.abort_on_overflow = on),
    ),
    Row { name: "tcp_allowed_congestion_control", get: |_| algorithms(), set: None },
    Row { name: "tcp_available_congestion_control", get: |_| algorithms(), set: None },
    row(
        "tcp_base_mss",
        |config| config.base_mss.to_string(),
        |config, text| size(text).map(|mss| config.base_mss = mss),
    ),
    row(
        "tcp_congestion_control",
        |config| config.congestion.name().to_owned(),
        |config, text| {
            config.congestion = Algorithm::from_name(text).ok_or(Errno::ENOENT)?;
            Ok(())
        },
    ),
    row("tcp_dsack", |config| bit(config.dsack), |config, text| is_on(text).map(|on| config.dsack = on)),
    row(
        "tcp_early_retrans",
        |config| if config.tail_loss_probe { "3" } else { "0" }.to_owned(),
        |config, text| byte(text, 0, 4).map(|mode| config.tail_loss_probe = mode >= 3),
    ),
    row(
        "tcp_ecn",
        |config| {
            match config.ecn {
                EcnMode::Off => "0",
                EcnMode::On => "1",
                EcnMode::Passive => "2",
            }
            .to_owned()
        },
        |config, text| {
            config.ecn = match byte(text, 0, 2)? {
                0 => EcnMode::Off,
                1 => EcnMode::On,
                _ => EcnMode::Passive,
            };
            Ok(())
        },
    ),
    row(
        "tcp_fastopen",
        |config| config.fast_open.bits().to_string(),
        |config, text| {
            let bits = u16::try_from(number(text, 0..=0xffff)?).map_err(|_| Errno::EINVAL)?;
            // Bits that mean nothing here would be read back as if they did.
            config.fast_open = FastOpenModes::from_bits(bits).ok_or(Errno::EINVAL)?;
            Ok(())
        },
    ),
    row(
        "tcp_fastopen_key",
        |config| config.fast_open_keys.map_or_else(|| NO_KEY.to_owned(), show_keys),
        |config, text| {
            // Shown while the stack makes its keys up.
            config.fast_open_keys = if text == NO_KEY { None } else { Some(parse_keys(text)?) };
            Ok(())
        },
    ),
    row(
        "tcp_fin_timeout",
        |config| config.fin_timeout.as_secs().to_string(),
        |config, text| seconds(text).map(|time| config.fin_timeout = time),
    ),
    row(
        "tcp_frto",
        |config| if config.frto { "2" } else { "0" }.to_owned(),
        |config, text| byte(text, 0, 2).map(|mode| config.frto = mode > 0),
    ),
    row(
        "tcp_invalid_ratelimit",
        |config| config.challenge_ack_interval.as_millis().to_string(),
        |config, text| {
            let limit = number(text, 0..=i32::MAX.unsigned_abs())?;
            config.challenge_ack_interval = Duration::from_millis(limit.into());
            Ok(())
        },
    ),
    row(
        "tcp_keepalive_intvl",
        |config| config.keepalive_interval.as_secs().to_string(),
        |config, text| seconds(text).map(|time| config.keepalive_interval = time),
    ),
    row(
        "tcp_keepalive_probes",
        |config| config.keepalive_probes.to_string(),
        |config, text| byte(text, 0, 255).map(|probes| config.keepalive_probes = probes),
    ),
    row(
        "tcp_keepalive_time",
        |config| config.keepalive_idle.as_secs().to_string(),
        |config, text| seconds(text).map(|time| config.keepalive_idle = time),
    ),
    row(
        "tcp_min_snd_mss",
        |config| config.min_mss.to_string(),
        |config, text| size(text).map(|mss| config.min_mss = mss),
    ),
    row(
        "tcp_moderate_rcvbuf",
        |config| bit(config.tune_receive_buffer),
        |config, text| is_on(text).map(|on| config.tune_receive_buffer = on),
    ),
    row(
        "tcp_mtu_probe_floor",
        |config| config.black_hole_floor.to_string(),
        |config, text| size(text).map(|mss| config.black_hole_floor = mss),
    ),
    row(
        "tcp_mtu_probing",
        |config| {
            match config.mtu_probing {
                MtuProbing::Off => "0",
                MtuProbing::BlackHole => "1",
                MtuProbing::Always => "2",
            }
            .to_owned()
        },
        |config, text| {
            config.mtu_probing = match number(text, 0..=255)? {
                0 => MtuProbing::Off,
                1 => MtuProbing::BlackHole,
                _ => MtuProbing::Always,
            };
            Ok(())
        },
    ),
    row(
        "tcp_notsent_lowat",
        |config| config.not_sent_low_water.to_string(),
        |config, text| number(text, 0..=u32::MAX).map(|bytes| config.not_sent_low_water = bytes),
    ),
    row(
        "tcp_orphan_retries",
        |config| config.orphan_retries.to_string(),
        |config, text| byte(text, 0, 255).map(|retries| config.orphan_retries = retries),
    ),
    row(
        "tcp_probe_interval",
        |config| config.mtu_probe_interval.as_secs().to_string(),
        |config, text| {
            number(text, 0..=u32::MAX)
                .map(|secs| config.mtu_probe_interval = Duration::from_secs(secs.into()))
        },
    ),
    row(
        "tcp_probe_threshold",
        |config| config.mtu_probe_threshold.to_string(),
        |config, text| {
            let threshold = number(text, 0..=i32::MAX.unsigned_abs())?;
            config.mtu_probe_threshold = u16::try_from(threshold).unwrap_or(u16::MAX);
            Ok(())
        },
    ),
    row(
        "tcp_recovery",
        |config| bit(config.rack),
        |config, text| byte(text, 0, 1).map(|mode| config.rack = mode > 0),
    ),
    row(
        "tcp_reordering",
        |config| config.reordering.to_string(),
        |config, text| byte(text, 1, 255).map(|degree| config.reordering = degree),
    ),
    row(
        "tcp_retries2",
        |config| config.retries.to_string(),
        |config, text| byte(text, 0, 255).map(|retries| config.retries = retries),
    ),
    row(
        "tcp_rfc1337",
        |config| bit(config.time_wait_ignores_reset),
        |config, text| is_on(text).map(|on| config.time_wait_ignores_reset = on),
    ),
    row(
        "tcp_rmem",
        |config| triple(config.receive_buffer),
        |config, text| sizes(text).map(|sizes| config.receive_buffer = sizes),
    ),
    row(
        "tcp_rto_max_ms",
        |config| config.rto_max.as_millis().to_string(),
        |config, text| {
            number(text, 1000..=120_000).map(|ms| config.rto_max = Duration::from_millis(ms.into()))
        },
    ),
    row(
        "tcp_rto_min_us",
        |config| config.rto_min.as_micros().to_string(),
        |config, text| {
            number(text, 1..=i32::MAX.unsigned_abs())
                .map(|us| config.rto_min = Duration::from_micros(us.into()))
        },
    ),
    row("tcp_sack", |config| bit(config.sack), |config, text| is_on(text).map(|on| config.sack = on)),
    row(
        "tcp_slow_start_after_idle",
        |config| bit(config.slow_start_after_idle),
        |config, text| is_on(text).map(|on| config.slow_start_after_idle = on),
    ),
    row(
        "tcp_syn_linear_timeouts",
        |config| config.syn_linear_timeouts.to_string(),
        |config, text| byte(text, 0, 127).map(|count| config.syn_linear_timeouts = count),
    ),
    row(
        "tcp_syn_retries",
        |config| config.syn_retries.to_string(),
        |config, text| byte(text, 1, 127).map(|retries| config.syn_retries = retries),
    ),
    row(
        "tcp_synack_retries",
        |config| config.synack_retries.to_string(),
        |config, text| byte(text, 0, 255).map(|retries| config.synack_retries = retries),
    ),
    row(
        "tcp_syncookies",
        |config| {
            match config.syn_cookies {
                SynCookies::Off => "0",
                SynCookies::WhenNeeded => "1",
                SynCookies::Always => "2",
            }
            .to_owned()
        },
        |config, text| {
            config.syn_cookies = match byte(text, 0, 2)? {
                0 => SynCookies::Off,
                1 => SynCookies::WhenNeeded,
                _ => SynCookies::Always,
            };
            Ok(())
        },
    ),
    row(
        "tcp_thin_linear_timeouts",
        |config| bit(config.thin_linear_timeouts),
        |config, text| is_on(text).map(|on| config.thin_linear_timeouts = on),
    ),
    row(
        "tcp_timestamps",
        |config| bit(config.timestamps),
        |config, text| byte(text, 0, 2).map(|mode| config.timestamps = mode > 0),
    ),
    row(
        "tcp_window_scaling",
        |config| bit(config.window_scaling),
        |config, text| is_on(text).map(|on| config.window_scaling = on),
    ),
    row(
        "tcp_wmem",
        |config| triple(config.send_buffer),
        |config, text| sizes(text).map(|sizes| config.send_buffer = sizes),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each setting takes back what it shows, and shows what it took.
    #[test]
    fn what_is_written_is_read_again() {
        for row in ROWS {
            let Some(set) = row.set else { continue };
            let mut config = Config::default();
            let shown = (row.get)(&config);
            assert_eq!(set(&mut config, &shown), Ok(()), "{}", row.name);
            assert_eq!((row.get)(&config), shown, "{}", row.name);
            assert!(set(&mut config, "nonsense").is_err(), "{}", row.name);
            assert!(set(&mut config, "").is_err(), "{}", row.name);
        }
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(ROWS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn values_out_of_range_change_nothing() {
        let mut config = Config::default();
        for (name, value) in
            [("tcp_ecn", "3"), ("tcp_syn_retries", "0"), ("tcp_rmem", "1 2"), ("tcp_sack", "-1")]
        {
            let row = ROWS.iter().find(|row| row.name == name).unwrap();
            assert_eq!(row.set.unwrap()(&mut config, value), Err(Errno::EINVAL), "{name}");
        }
        assert_eq!(config.syn_retries, Config::default().syn_retries);
    }
}

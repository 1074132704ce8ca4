//! Linux's sysctls as settings of the stack.

use std::time::Duration;

use netstack::Stack;
use netstack::tcp::{
    Algorithm, BufferSizes, Config, EcnMode, FastOpenKeys, FastOpenModes, ListenRules, MtuProbing, SynCookies,
};

use crate::value::Value;

/// Changes the setting of the network layer that Linux calls `name`; false if it is none.
pub(super) fn apply_to_ip(stack: &Stack, name: &str, value: &Value) -> bool {
    let Value::Int(number) = *value else { return false };
    let changed = stack.change_ip_config(|config| match name {
        "ipv6.flowlabel_reflect" => {
            config.flow_labels.reflects_streams = number & 1 != 0;
            config.flow_labels.reflects_resets = number & 2 != 0;
            config.flow_labels.reflects_echo = number & 4 != 0;
            Ok(())
        }
        "ipv4.route.min_pmtu" => u32::try_from(number).map(|mtu| config.min_path_mtu = mtu).map_err(drop),
        _ => Err(()),
    });
    changed.is_ok()
}

/// Changes the setting that Linux calls `name`.
pub(super) fn apply(config: &mut Config, name: &str, value: &Value) -> Result<(), String> {
    let number = || match value {
        Value::Int(number) => Ok(*number),
        other => Err(format!("{name} needs a number, found {}", other.kind())),
    };
    let text = || match value {
        Value::Name(text) => Ok(text.as_str()),
        other => Err(format!("{name} needs a name, found {}", other.kind())),
    };
    let on = || number().map(|number| number != 0);
    let byte =
        || number().and_then(|number| u8::try_from(number).map_err(|_| format!("{name} is out of range")));
    let seconds = || number().map(|number| Duration::from_secs(u64::try_from(number).unwrap_or(0)));
    let millis = || number().map(|number| Duration::from_millis(u64::try_from(number).unwrap_or(0)));
    match name {
        "tcp_sack" => config.sack = on()?,
        "tcp_dsack" => config.dsack = on()?,
        "tcp_timestamps" => config.timestamps = on()?,
        "tcp_window_scaling" => config.window_scaling = on()?,
        "tcp_ecn" => {
            config.ecn = match number()? {
                0 => EcnMode::Off,
                1 => EcnMode::On,
                2 => EcnMode::Passive,
                other => return Err(format!("tcp_ecn = {other} is not known")),
            };
        }
        "tcp_syncookies" => {
            config.syn_cookies = match number()? {
                0 => SynCookies::Off,
                1 => SynCookies::WhenNeeded,
                _ => SynCookies::Always,
            };
        }
        "tcp_congestion_control" => {
            config.congestion = match text()? {
                "reno" => Algorithm::NewReno,
                "cubic" => Algorithm::Cubic,
                "bbr" => Algorithm::Bbr,
                other => return Err(format!("there is no congestion control `{other}`")),
            };
        }
        "tcp_slow_start_after_idle" => config.slow_start_after_idle = on()?,
        "tcp_syn_retries" => config.syn_retries = byte()?,
        "tcp_syn_linear_timeouts" => config.syn_linear_timeouts = byte()?,
        "tcp_fastopen" => {
            let bits = u16::try_from(number()?).map_err(|_| "tcp_fastopen is out of range")?;
            config.fast_open = FastOpenModes::from_bits_truncate(bits);
        }
        "tcp_synack_retries" => config.synack_retries = byte()?,
        "tcp_retries2" => config.retries = byte()?,
        "tcp_orphan_retries" => config.orphan_retries = byte()?,
        "tcp_keepalive_time" => config.keepalive_idle = seconds()?,
        "tcp_keepalive_intvl" => config.keepalive_interval = seconds()?,
        "tcp_keepalive_probes" => config.keepalive_probes = byte()?,
        "tcp_fin_timeout" => config.fin_timeout = seconds()?,
        "tcp_invalid_ratelimit" => config.challenge_ack_interval = millis()?,
        "tcp_reordering" => config.reordering = byte()?,
        "tcp_early_retrans" => config.tail_loss_probe = on()?,
        "tcp_recovery" => config.rack = on()?,
        "tcp_frto" => config.frto = on()?,
        "tcp_abort_on_overflow" => config.abort_on_overflow = on()?,
        "tcp_moderate_rcvbuf" => config.tune_receive_buffer = on()?,
        "tcp_rfc1337" => config.time_wait_ignores_reset = on()?,
        "tcp_mtu_probing" => {
            config.mtu_probing = match number()? {
                0 => MtuProbing::Off,
                1 => MtuProbing::BlackHole,
                2 => MtuProbing::Always,
                other => return Err(format!("tcp_mtu_probing = {other} is not known")),
            };
        }
        "tcp_probe_interval" => config.mtu_probe_interval = seconds()?,
        "tcp_probe_threshold" => {
            config.mtu_probe_threshold =
                u16::try_from(number()?).map_err(|_| "tcp_probe_threshold is out of range")?;
        }
        "tcp_rto_max_ms" => config.rto_max = millis()?,
        "tcp_thin_linear_timeouts" => config.thin_linear_timeouts = on()?,
        "tcp_fastopen_key" => config.fast_open_keys = Some(fast_open_keys(text()?)?),
        "tcp_base_mss" => {
            config.base_mss = u16::try_from(number()?).map_err(|_| "tcp_base_mss is out of range")?;
        }
        "tcp_min_snd_mss" => {
            config.min_mss = u16::try_from(number()?).map_err(|_| "tcp_min_snd_mss is out of range")?;
        }
        "tcp_rmem" => config.receive_buffer = sizes(text()?)?,
        "tcp_wmem" => config.send_buffer = sizes(text()?)?,
        "listen_rules" => {
            config.listen_rules = match text()? {
                "linux" => ListenRules::Linux,
                "seed-2019" => ListenRules::Seed2019,
                other => return Err(format!("there are no listen rules `{other}`")),
            };
        }
        other => return Err(format!("netstack has no setting `{other}`")),
    }
    Ok(())
}

/// `"MIN DEFAULT MAX"`.
fn sizes(text: &str) -> Result<BufferSizes, String> {
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|part| part.parse().ok()).collect();
    match numbers[..] {
        [min, default, max] => Ok(BufferSizes { min, default, max }),
        _ => Err(format!("`{text}` is not three numbers")),
    }
}

/// The keys as `tcp_fastopen_key` writes them: words in hexadecimal, one or two keys.
fn fast_open_keys(text: &str) -> Result<FastOpenKeys, String> {
    let key = |text: &str| {
        let mut key = [0; 16];
        let mut words = text.split('-');
        for chunk in key.chunks_exact_mut(4) {
            let word = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
            chunk.copy_from_slice(&word.ok_or("a key has four words")?.to_le_bytes());
        }
        Ok::<_, String>(key)
    };
    let (primary, backup) = match text.split_once(',') {
        Some((primary, backup)) => (key(primary)?, Some(key(backup)?)),
        None => (key(text)?, None),
    };
    Ok(FastOpenKeys { primary, backup })
}

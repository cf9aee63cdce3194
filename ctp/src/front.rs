//! The addresses of fronts, as CTP takes them.

/// Why an address is none. Each names the address and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// No address at all.
    #[error("no front address is given: write the broker's, like \"tcp://180.168.146.187:10201\"")]
    None,
    /// Not of the form.
    #[error("{address:?} is no front address: {fault}; write it like \"tcp://180.168.146.187:10201\"")]
    Malformed {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// The protocols that CTP's libraries know.
const PROTOCOLS: [&str; 4] = ["tcp", "ssl", "tcp6", "ssl6"];

/// Whether CTP can make something of an address: `tcp://host:port`, or with `ssl`, `tcp6`, `ssl6`. CTP itself says
/// nothing about one that it cannot read, and waits for ever.
///
/// # Errors
/// If it cannot.
pub fn check_front(address: &str) -> Result<(), FrontError> {
    let fault = |fault| Err(FrontError::Malformed { address: address.to_owned(), fault });
    if address.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return fault("it holds a space or a character that is not ASCII");
    }
    let Some((protocol, rest)) = address.split_once("://") else {
        return fault("it has no \"://\"");
    };
    if !PROTOCOLS.contains(&protocol) {
        return fault("it begins with none of tcp://, ssl://, tcp6://, ssl6://");
    }
    // The last colon: an IPv6 address has others.
    let Some((host, port)) = rest.rsplit_once(':') else {
        return fault("it has no port");
    };
    if host.is_empty() || host.contains('/') {
        return fault("it has no host");
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().unwrap_or(0) == 0 {
        return fault("its port is no number from 1 to 65535");
    }
    Ok(())
}

/// [`check_front`] on each; there must be one.
///
/// # Errors
/// That of the first that is wrong.
pub fn check_fronts(addresses: &[String]) -> Result<(), FrontError> {
    if addresses.is_empty() {
        return Err(FrontError::None);
    }
    addresses.iter().try_for_each(|address| check_front(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_brokers_write_them_pass() {
        for address in [
            "tcp://180.168.146.187:10201",
            "ssl://front.broker.cn:443",
            "tcp6://fe80::20f8:7973:41205",
            "ssl6://[::1]:1",
        ] {
            assert_eq!(check_front(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        for (address, fault) in [
            ("", "it has no \"://\""),
            ("180.168.146.187:10201", "it has no \"://\""),
            ("http://a:1", "it begins with none of tcp://, ssl://, tcp6://, ssl6://"),
            ("TCP://a:1", "it begins with none of tcp://, ssl://, tcp6://, ssl6://"),
            ("tcp://a", "it has no port"),
            ("tcp://:1", "it has no host"),
            ("tcp://a/b:1", "it has no host"),
            ("tcp://a:", "its port is no number from 1 to 65535"),
            ("tcp://a:0", "its port is no number from 1 to 65535"),
            ("tcp://a:+1", "its port is no number from 1 to 65535"),
            ("tcp://a:65536", "its port is no number from 1 to 65535"),
            ("tcp://a:1 ", "it holds a space or a character that is not ASCII"),
            ("tcp://a\0:1", "it holds a space or a character that is not ASCII"),
            ("tcp://期:1", "it holds a space or a character that is not ASCII"),
        ] {
            let malformed = FrontError::Malformed { address: address.to_owned(), fault };
            assert_eq!(check_front(address), Err(malformed), "{address}");
        }
        assert_eq!(
            check_fronts(&["tcp://a:1".to_owned(), "tcp://a".to_owned()]).expect_err("no port").to_string(),
            "\"tcp://a\" is no front address: it has no port; write it like \"tcp://180.168.146.187:10201\""
        );
        assert_eq!(check_fronts(&[]), Err(FrontError::None));
    }
}

//! `--external fd=N:POLICY` as values.

use resume::ExternalPolicy;

/// Reads one `fd=N:POLICY`.
///
/// # Errors
/// When the text has another form; the message says which forms there are.
pub fn parse_external(text: &str) -> Result<(i32, ExternalPolicy), ExternalError> {
    let bad = || ExternalError { text: text.to_owned() };
    let rest = text.strip_prefix("fd=").ok_or_else(bad)?;
    let (number, policy) = rest.split_once(':').ok_or_else(bad)?;
    let fd: i32 = number.parse().map_err(|_| bad())?;
    if fd < 0 {
        return Err(bad());
    }
    let policy = match policy {
        "inherit" => ExternalPolicy::Inherit,
        "null" => ExternalPolicy::Null,
        "close" => ExternalPolicy::Close,
        _ => {
            let path = policy
                .strip_prefix("reopen:")
                .or_else(|| policy.strip_prefix("reopen "))
                .filter(|p| !p.is_empty())
                .ok_or_else(bad)?;
            ExternalPolicy::Reopen(path.into())
        }
    };
    Ok((fd, policy))
}

/// The text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read `--external {text}`: write fd=N:inherit, fd=N:null, fd=N:close or fd=N:reopen:PATH")]
pub struct ExternalError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms_are_read() {
        assert_eq!(parse_external("fd=3:null"), Ok((3, ExternalPolicy::Null)));
        assert_eq!(parse_external("fd=0:inherit"), Ok((0, ExternalPolicy::Inherit)));
        assert_eq!(
            parse_external("fd=12:reopen:/var/log/a:b"),
            Ok((12, ExternalPolicy::Reopen("/var/log/a:b".into())))
        );
        for bad in ["3:null", "fd=x:null", "fd=3:reopen:", "fd=3:burn", "fd=-1:null", "fd=3"] {
            assert!(parse_external(bad).is_err(), "{bad}");
        }
    }
}

//! `/proc/PID/net/igmp` and `igmp6`: the multicast groups of which somebody is a member.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::text::{Cursor, Malformed, lines};

/// A multicast group on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulticastGroup {
    /// The interface's number.
    pub interface: u32,
    /// The group.
    pub group: IpAddr,
}

impl MulticastGroup {
    /// Whether the kernel itself is a member, for every interface: all hosts, all nodes, and who
    /// asks for a node by its address.
    pub fn is_the_kernels(&self) -> bool {
        match self.group {
            IpAddr::V4(group) => group == Ipv4Addr::new(224, 0, 0, 1),
            IpAddr::V6(group) => match group.segments() {
                [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1] => true,
                [0xff02, 0, 0, 0, 0, 1, last, _] => last >> 8 == 0xff,
                _ => false,
            },
        }
    }
}

/// Parses the text of `igmp`: a line for each interface, and indented ones for its groups.
///
/// # Errors
/// When a line does not have the form that the kernel prints.
pub fn parse_igmp(text: &[u8]) -> Result<Vec<MulticastGroup>, Malformed> {
    let mut groups = Vec::new();
    let mut interface = 0;
    for line in lines(text).skip(1) {
        let is_group = line.first().is_some_and(u8::is_ascii_whitespace);
        let mut cursor = Cursor::new(line);
        cursor.skip_blanks();
        if is_group {
            let group: u32 = cursor.hex_as("a group in hexadecimal")?;
            let group = IpAddr::V4(Ipv4Addr::from(group.to_ne_bytes()));
            groups.push(MulticastGroup { interface, group });
        } else {
            interface = cursor.dec_as("an interface's number")?;
        }
    }
    Ok(groups)
}

/// Parses the text of `igmp6`: a line for each group.
///
/// # Errors
/// As [`parse_igmp`].
pub fn parse_igmp6(text: &[u8]) -> Result<Vec<MulticastGroup>, Malformed> {
    let group = |line| {
        let mut cursor = Cursor::new(line);
        let interface = cursor.dec_as("an interface's number")?;
        cursor.skip_blanks();
        let _name = cursor.word("an interface's name")?;
        cursor.skip_blanks();
        const WANTED: &str = "a group of 32 hexadecimal digits";
        let word = cursor.word(WANTED)?;
        let digits = std::str::from_utf8(word).ok().filter(|digits| digits.len() == 32);
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let group = Ipv6Addr::from_bits(number.ok_or_else(|| cursor.malformed(WANTED))?);
        Ok(MulticastGroup { interface, group: IpAddr::V6(group) })
    };
    lines(text).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_their_interface() {
        let text = b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     2      V3\n\
            \t\t\t\t030201E0     1 0:00000000\t\t0\n\
            \t\t\t\t010000E0     1 0:00000000\t\t0\n\
            4\teth0      :     1      V3\n\
            \t\t\t\t010000E0     1 0:00000000\t\t0\n";
        let groups = parse_igmp(text).unwrap();
        let shown: Vec<_> =
            groups.iter().map(|g| (g.interface, g.group.to_string(), g.is_the_kernels())).collect();
        let wanted = [(1, "224.1.2.3", false), (1, "224.0.0.1", true), (4, "224.0.0.1", true)];
        assert_eq!(shown, wanted.map(|(number, group, is)| (number, group.to_owned(), is)));
        let text = b"1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
            4    eth0            ff0200000000000000000001ff000002     1 00000004 0\n\
            4    eth0            ff150000000000000000000000000007     1 00000004 0\n";
        let groups = parse_igmp6(text).unwrap();
        assert_eq!(
            groups.iter().map(MulticastGroup::is_the_kernels).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert_eq!(groups[2].group.to_string(), "ff15::7");
        assert!(parse_igmp6(b"x y z\n").is_err() && parse_igmp(b"Idx\n\t\t\tzz\n").is_err());
    }

    #[test]
    fn what_the_kernel_prints_is_read() {
        let read = |name: &str| std::fs::read(format!("/proc/self/net/{name}")).unwrap_or_default();
        parse_igmp(&read("igmp")).unwrap();
        parse_igmp6(&read("igmp6")).unwrap();
    }
}

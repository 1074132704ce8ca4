//! The maps between the ids of a user namespace and those of the sandbox (`user_namespaces(7)`, "User and group ID
//! mappings").

/// Most extents of one map (Linux, `UID_GID_MAP_MAX_EXTENTS`).
const MAX_EXTENTS: usize = 340;

/// One line of a map: `count` ids from `first` on in the namespace are those from `lower` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first id in the namespace.
    pub(crate) first: u32,
    /// The first id outside.
    pub(crate) lower: u32,
    /// How many.
    pub(crate) count: u32,
}

impl Extent {
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: u32, b: u32| a <= b + (other.count - 1) && b <= a + (self.count - 1);
        meet(self.first, other.first) || meet(self.lower, other.lower)
    }
}

/// A map as it was written, or with the outer ids made global.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IdMap {
    extents: Vec<Extent>,
}

impl IdMap {
    /// Parses what is written to `/proc/PID/uid_map`. `None` for what the kernel answers with `EINVAL`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        // As a string of C, it ends with the first NUL.
        let text = text.split('\0').next().unwrap_or_default();
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut extents: Vec<Extent> = Vec::new();
        for line in text.split('\n') {
            let mut fields = line.split_ascii_whitespace();
            let mut number = || fields.next().filter(|f| f.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
            let extent = Extent { first: number()?, lower: number()?, count: number()? };
            let Extent { first, lower, count } = extent;
            let is_whole =
                |start: u32| start != u32::MAX && start.checked_add(count).is_some_and(|end| end > start);
            if fields.next().is_some() || !is_whole(first) || !is_whole(lower) {
                return None;
            }
            if extents.iter().any(|other| other.overlaps(&extent)) || extents.len() == MAX_EXTENTS {
                return None;
            }
            extents.push(extent);
        }
        Some(Self { extents })
    }

    /// The lines.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The same map with each range outside replaced by what `range` makes of it. `None` where one has no equivalent.
    pub(crate) fn with_lower(&self, range: impl Fn(u32, u32) -> Option<u32>) -> Option<Self> {
        let moved = |e: &Extent| Some(Extent { lower: range(e.lower, e.count)?, ..*e });
        Some(Self { extents: self.extents.iter().map(moved).collect::<Option<_>>()? })
    }

    /// From inside to outside, for `count` ids in one extent.
    pub(crate) fn down(&self, id: u32, count: u32) -> Option<u32> {
        let holds = |e: &&Extent| id >= e.first && u64::from(id) + u64::from(count) <= end(e.first, e.count);
        self.extents.iter().find(holds).map(|e| id - e.first + e.lower)
    }

    /// From outside to inside.
    pub(crate) fn up(&self, id: u32) -> Option<u32> {
        let holds = |e: &&Extent| id >= e.lower && u64::from(id) < end(e.lower, e.count);
        self.extents.iter().find(holds).map(|e| id - e.lower + e.first)
    }
}

fn end(start: u32, count: u32) -> u64 {
    u64::from(start) + u64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_extents() {
        let map = IdMap::parse(b" 0 1000 1\n1 100000 65535\n").unwrap();
        assert_eq!(map.down(0, 1), Some(1000));
        assert_eq!(map.down(65535, 1), Some(165_534));
        assert_eq!(map.down(65536, 1), None);
        assert_eq!(map.up(100_000), Some(1));
        assert_eq!(map.up(0), None);
        // A range has to lie in one extent.
        assert_eq!((map.down(1, 65535), map.down(1, 65536), map.down(0, 2)), (Some(100_000), None, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bad: &[&[u8]] = &[
            b"",
            b"\n",
            b"0 0",
            b"0 0 1 1",
            b"0 0 0",
            b"a 0 1",
            b"0 0 1x",
            b"-1 0 1",
            b"4294967295 0 1",
            b"1 0 4294967295",
            b"0 1 4294967295",
            b"0 0 1\n\n1 1 1",
            b"0 0 10\n9 20 1",
            b"0 0 10\n20 9 1",
        ];
        for text in bad {
            assert_eq!(IdMap::parse(text), None, "{:?}", String::from_utf8_lossy(text));
        }
        assert!(IdMap::parse(b"0 0 4294967295").is_some());
    }

    #[test]
    fn a_map_has_at_most_340_lines() {
        let lines = |n: u32| (0..n).map(|i| format!("{i} {i} 1\n")).collect::<String>();
        assert!(IdMap::parse(lines(340).as_bytes()).is_some());
        assert_eq!(IdMap::parse(lines(341).as_bytes()), None);
    }
}

//! In which order targets are tried; pure.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

/// Indices of `targets`, the first choice first: from the source's highest score down (E92), or round robin from `turn`
/// (E91).
pub(super) fn order(targets: &[IpAddr], source: Option<IpAddr>, turn: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    if let Some(source) = source {
        order.sort_by_key(|index| Reverse(targets.get(*index).map(|target| score(source, *target))));
    } else if !order.is_empty() {
        let first = turn % order.len();
        order.rotate_left(first);
    }
    order
}

/// Rendezvous hashing: who leaves takes only its own sources along, who comes takes an equal share from all.
fn score(source: IpAddr, target: IpAddr) -> u64 {
    // Its keys are fixed, so that a source keeps its target from run to run.
    let mut hasher = DefaultHasher::new();
    (source, target).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn target(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 1, number).into()
    }

    #[test]
    fn e91_each_target_has_its_turn() {
        let targets = [target(1), target(2), target(3)];
        let firsts: Vec<Option<usize>> = (0..6).map(|turn| order(&targets, None, turn).first().copied()).collect();
        assert_eq!(firsts, [0, 1, 2, 0, 1, 2].map(Some));
        assert_eq!(order(&targets, None, 1), [1, 2, 0]);
        assert!(order(&[], None, 7).is_empty());
    }

    #[test]
    fn e92_a_target_that_leaves_moves_only_its_own_sources() {
        let all = [target(1), target(2), target(3)];
        let rest = [target(1), target(3)];
        let choice = |targets: &[IpAddr], source| {
            order(targets, Some(source), 0).first().and_then(|index| targets.get(*index).copied())
        };
        let sources =
            (0..=u16::MAX).step_by(64).map(|number| IpAddr::from(Ipv4Addr::from(0x7f00_0000 + u32::from(number))));
        let mut moved = 0;
        for source in sources {
            let (before, after) = (choice(&all, source), choice(&rest, source));
            if before == Some(target(2)) {
                moved += 1;
            } else {
                assert_eq!(before, after, "{source}");
            }
        }
        assert!((240..440).contains(&moved), "a third of 1024 sources, but {moved} moved");
    }
}

//! How long a phone stays in KakaoTalk with a share (bridge.md, section 10). Pure.

use std::time::Duration;

use naru_domain::MediaKind;

const MB: usize = 1024 * 1024;

/// What the phone computes by itself when no wait is given; `sizes` are the items' bytes.
#[must_use]
pub fn phone_wait(sizes: &[usize]) -> Duration {
    let total = u64::try_from(sizes.iter().sum::<usize>()).unwrap_or(u64::MAX);
    let by_size = 1_500 + total.saturating_mul(2_000) / u64::try_from(MB).unwrap_or(1);
    let ms = if sizes.len() <= 1 {
        by_size.clamp(4_000, 6_000)
    } else {
        let further = u64::try_from(sizes.len() - 1).unwrap_or(u64::MAX);
        by_size.saturating_add(further.saturating_mul(300)).clamp(3_000, 15_000)
    };
    Duration::from_millis(ms)
}

/// The wait to set where the phone's own formula is known to be too short, after the experience in the
/// project's notes: films, more than 5 MB, and sets of three or more beyond small pictures. `None` lets
/// the phone compute. Sizes of links are 0, since nobody knows them yet.
#[must_use]
pub fn suggested_wait(kind: MediaKind, sizes: &[usize]) -> Option<Duration> {
    let total: usize = sizes.iter().sum();
    let ms = if kind == MediaKind::Video {
        if total > 5 * MB { 20_000 } else { 15_000 }
    } else if sizes.len() >= 3 && total > MB {
        let further = u64::try_from(sizes.len() - 3).unwrap_or(0);
        (10_000 + further * 1_000).min(15_000)
    } else if total > 5 * MB {
        if total > 10 * MB { 10_000 } else { 8_000 }
    } else {
        return None;
    };
    Some(Duration::from_millis(ms).max(phone_wait(sizes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phones_formula_is_the_one_in_the_scripts() {
        let check = |sizes: &[usize], ms| {
            assert_eq!(phone_wait(sizes), Duration::from_millis(ms), "{sizes:?}");
        };
        check(&[1], 4_000);
        check(&[2 * MB], 5_500);
        check(&[4 * MB], 6_000);
        check(&[1, 1], 3_000);
        check(&[MB, MB, MB], 8_100);
        check(&[10 * MB, 1], 15_000);
        check(&[], 4_000);
    }

    #[test]
    fn waits_are_suggested_only_where_the_formula_is_too_short() {
        let check = |kind, sizes: &[usize], ms: Option<u64>| {
            let expected = ms.map(Duration::from_millis);
            assert_eq!(suggested_wait(kind, sizes), expected, "{sizes:?}");
        };
        check(MediaKind::Image, &[1_000], None);
        check(MediaKind::Image, &[100, 100, 100], None);
        check(MediaKind::Image, &[MB, MB, MB], Some(10_000));
        check(MediaKind::Image, &[6 * MB], Some(8_000));
        check(MediaKind::Image, &[12 * MB], Some(10_000));
        check(MediaKind::Document, &[0], None);
        check(MediaKind::Video, &[0], Some(15_000));
        check(MediaKind::Video, &[6 * MB], Some(20_000));
    }
}

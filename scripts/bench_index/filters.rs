//! Filters as a large installation has them, for benchmarks of the index and of the whole broker: 70 % exact, 20 % with
//! `+`, 10 % with `#`.

/// A building site with floors and devices, ten floors and a thousand filters each: larger indexes have more sites.
struct Place {
    site: usize,
    floor: usize,
    device: usize,
}

impl Place {
    fn of(device: usize) -> Self {
        let (site, floor) = (device / 1000, device / 100 % 10);
        Self {
            site,
            floor,
            device,
        }
    }
}

const METRICS: [&str; 4] = ["temperature", "humidity", "power", "state"];

/// Different filters; there are as many devices.
pub fn filters(count: usize) -> Vec<String> {
    let mut filters: Vec<String> = (0..count).map(filter).collect();
    // In no particular order.
    let mut random = Random(3);
    for n in (1..count).rev() {
        filters.swap(n, random.below(n + 1));
    }
    filters
}

fn filter(n: usize) -> String {
    let Place {
        site,
        floor,
        device,
    } = Place::of(n);
    let metric = METRICS[n / 7 % METRICS.len()];
    match n % 100 {
        0 => format!("site/{site}/floor/{floor}/#"),
        1..10 => format!("site/{site}/floor/{floor}/dev/{device}/#"),
        10..14 => format!("site/{site}/floor/{floor}/dev/+/{}", METRICS[n % 10 % 4]),
        14..20 => format!("site/+/floor/+/dev/{device}/{metric}"),
        20..30 => format!("site/{site}/floor/{floor}/dev/{device}/+"),
        _ => format!("site/{site}/floor/{floor}/dev/{device}/{metric}"),
    }
}

/// A topic that some filters match.
pub fn hit(count: usize, random: &mut Random) -> String {
    let n = random.below(count);
    let Place {
        site,
        floor,
        device,
    } = Place::of(n);
    let metric = METRICS[n / 7 % METRICS.len()];
    format!("site/{site}/floor/{floor}/dev/{device}/{metric}")
}

/// A topic that none matches, although its parents are known.
pub fn miss(count: usize, random: &mut Random) -> String {
    let Place { site, device, .. } = Place::of(random.below(count));
    format!("site/{site}/roof/0/dev/{device}/state")
}

/// A small generator; the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

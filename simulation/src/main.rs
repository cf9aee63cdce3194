fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(1);
    let began = std::time::Instant::now();
    let mut counts = simulation::outside::Counts::default();
    for s in seed..seed + count {
        let ended = simulation::world::run(s, Default::default());
        counts += ended.counts;
        if ended.finding.is_some() {
            let ended = simulation::world::run(s, simulation::outside::StepLog::kept());
            for l in &ended.lines {
                println!("{l}");
            }
            println!("seed {s}: {:?}", ended.finding);
            break;
        }
    }
    println!("{counts:?} {:?}", began.elapsed());
}

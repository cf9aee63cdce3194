//! The machine, for whoever compares tables.

use gateway_node::broker::binary::{self, Places};

/// One line: processor, how many of them, system, how busy it is, and the server's version.
pub async fn description() -> anyhow::Result<String> {
    let (_, server) = binary::find(&Places::of_this_process(None)).await?;
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read("/proc/loadavg").map_or_else(String::new, |text| {
        let minute = text.split(' ').next().unwrap_or_default().to_owned();
        format!(", load {minute} when it began")
    });
    let system = std::env::consts::OS;
    Ok(format!("{count} × {processor}, {system} {kernel}{load}, nats-server {server}").replace(" ,", ","))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

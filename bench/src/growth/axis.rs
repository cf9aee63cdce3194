//! What grows, and what stays the same meanwhile.

use crate::far_side::Extent;
use crate::feed::Side;
use crate::subscribers::Shape;

/// Something that can be more.
pub struct Axis {
    /// What there is more of.
    pub name: &'static str,
    /// Ticks a second, over all gateways, while processor time is measured.
    pub rate: f64,
    /// Who is measured.
    pub sides: &'static [Side],
    /// Larger and larger.
    pub steps: Vec<Step>,
}

/// One size of an installation.
#[derive(Debug, Clone)]
pub struct Step {
    /// How much there is of what grows.
    pub size: usize,
    /// Of each node.
    pub extent: Extent,
    /// Servers; more than one are a cluster.
    pub brokers: usize,
    /// Processes with a node.
    pub nodes: usize,
    /// Who receives.
    pub shape: Shape,
}

const BOTH: &[Side] = &[Side::Node, Side::Bare];
/// What every machine manages at 10,000 ticks a second is a tenth of it for 256 subscribers.
const FEW: f64 = 1_000.0;
const ORDINARY: f64 = 10_000.0;

/// All of them.
pub fn all() -> Vec<Axis> {
    vec![symbols(), subscribers(), gateways(), brokers(), nodes()]
}

impl Axis {
    /// What is the same in all columns, as a sentence.
    pub fn constants(&self) -> String {
        let of = |value: fn(&Step) -> usize, name: &str| {
            let first = self.steps.first().map(value)?;
            self.steps.iter().all(|step| value(step) == first).then(|| format!("{first} {name}"))
        };
        let same = [
            of(|step| step.nodes, "node(s)"),
            of(|step| step.extent.gateways, "gateway(s) a node"),
            of(|step| step.extent.instruments, "symbols a gateway"),
            of(|step| step.brokers, "broker(s)"),
            of(|step| step.shape.receivers(), "subscriber(s)"),
        ];
        let same: Vec<String> = same.into_iter().flatten().collect();
        format!("{}; processor time at {} ticks a second.", same.join(", "), self.rate)
    }
}

fn step(size: usize) -> Step {
    Step { size, extent: Extent::default(), brokers: 1, nodes: 1, shape: Shape::ONE }
}

fn processes(count: usize) -> Shape {
    Shape { processes: count, ..Shape::ONE }
}

fn symbols() -> Axis {
    let of = |count| Step { extent: Extent { instruments: count, ..Extent::default() }, ..step(count) };
    Axis { name: "symbols", rate: ORDINARY, sides: BOTH, steps: [10, 1_000, 20_000].map(of).into() }
}

fn subscribers() -> Axis {
    let of = |count| {
        let shape = if count > 16 { Shape { connections: count / 4, ..processes(4) } } else { processes(count) };
        Step { shape, ..step(count) }
    };
    Axis { name: "subscribers", rate: FEW, sides: BOTH, steps: [1, 4, 16, 64, 256].map(of).into() }
}

fn gateways() -> Axis {
    let of = |count| Step { extent: Extent { gateways: count, ..Extent::default() }, ..step(count) };
    Axis { name: "gateways of a node", rate: ORDINARY, sides: &[Side::Node], steps: [1, 4, 16].map(of).into() }
}

fn brokers() -> Axis {
    let of = |count| Step { brokers: count, shape: processes(2), ..step(count) };
    Axis { name: "brokers", rate: ORDINARY, sides: BOTH, steps: [1, 3].map(of).into() }
}

fn nodes() -> Axis {
    let of = |count| Step { brokers: 3, nodes: count, shape: processes(2), ..step(count) };
    Axis { name: "nodes", rate: ORDINARY, sides: BOTH, steps: [1, 3].map(of).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_steps_have() {
        for step in subscribers().steps {
            assert_eq!(step.shape.receivers(), step.size);
        }
        assert!(gateways().steps.iter().all(|step| step.extent.gateway_names().count() == step.size));
    }

    #[test]
    fn constants_leave_out_what_grows() {
        let said = "1 node(s), 1 gateway(s) a node, 16 symbols a gateway, 1 broker(s); processor time at 1000 ticks a \
                    second.";
        assert_eq!(subscribers().constants(), said);
    }
}

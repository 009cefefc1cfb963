import Glibc

/// What a task costs in a forked child of a process that uses Swift concurrency, next to its parent: a program of its own, with ForkGuardRuntime in it.
func benchmarkTasks() -> [Table] {
    let rounds = rounds(25)
    unsetenv("FORKGUARD_RUNTIME")
    var rows: [Row] = []
    for line in output(of: "task-load", "\(rounds)").split(separator: "\n") {
        let fields = line.split(separator: "|").map(String.init)
        let (name, parent, child, ratio) = (fields[0], Double(fields[2])!, Double(fields[3])!, Double(fields[4])!)
        // Of what can be late only the difference says anything.
        if fields[1] == "late" {
            rows.append(Row(name + ", later than the parent's", child - parent, "ns", goal: 0))
        } else {
            // Promised as a share of the parent's throughput: 0.5.
            rows.append(Row(name, child, "ns", peer: "the parent", ratio: ratio, goal: 2))
        }
    }
    return [
        Table(
            title: "Swift concurrency in a forked child",
            method: "next to its own parent, with ForkGuardRuntime; medians of \(rounds) turns each", rows: rows)
    ]
}

import CBench
import ForkGuard
import Glibc

// Swift concurrency in a forked child next to that of its own parent: task-load. Both do the same in turns, a turn at a time, and
// the other waits. Prints a line for each load: its name, whether its figures say how late something was, those of the parent and of the child, and the
// ratio. The argument is how many turns. Started by forkguard-bench.

typealias Load = @Sendable () async -> Double

let calls = 2000

/// Nanoseconds a call.
func timed(_ calls: Int, _ body: @Sendable () async -> Void) async -> Double {
    let began = bench_nanoseconds()
    await body()
    return Double(bench_nanoseconds() - began) / Double(calls)
}

actor Counter {
    var count = 0
    func add() { count += 1 }
}

/// By how much a sleep of a millisecond was late, at worst of the given share of 100.
func lateness<C: Clock>(_ clock: C, share: Double) async -> Double where C.Duration == Duration {
    var late: [Double] = []
    for _ in 0..<100 {
        let began = clock.now
        try? await Task.sleep(for: .milliseconds(1), clock: clock)
        late.append((began.duration(to: clock.now) - .milliseconds(1)) / .nanoseconds(1))
    }
    return late.sorted()[Int(share * 99)]
}

let loads: [(name: String, isLateness: Bool, run: Load)] = [
    ("a task, awaited", false, { await timed(calls) { for _ in 0..<calls { await Task.detached {}.value } } }),
    (
        "a task of a group of 1000", false,
        { await timed(1000) { await withTaskGroup(of: Void.self) { group in for _ in 0..<1000 { group.addTask { await Task.yield() } } } } }
    ),
    (
        "a call of an actor", false,
        {
            let counter = Counter()
            return await timed(calls) { for _ in 0..<calls { await counter.add() } }
        }
    ),
    ("Task.yield", false, { await timed(calls) { for _ in 0..<calls { await Task.yield() } } }),
    ("Task.sleep of 1 ms, continuous clock, median", true, { await lateness(ContinuousClock(), share: 0.5) }),
    ("the same, 90th of 100", true, { await lateness(ContinuousClock(), share: 0.9) }),
    ("Task.sleep of 1 ms, suspending clock, median", true, { await lateness(SuspendingClock(), share: 0.5) }),
]
guard CommandLine.arguments.count == 2, let rounds = Int(CommandLine.arguments[1]), rounds > 0 else {
    print("usage: task-load ROUNDS")
    exit(64)
}

struct Pipe {
    let read, write: Int32

    init() {
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0)
        (read, write) = (ends[0], ends[1])
    }

    func send(_ value: Double) { withUnsafeBytes(of: value) { precondition(Glibc.write(write, $0.baseAddress, 8) == 8) } }

    func receive() -> Double? {
        var value = 0.0
        return withUnsafeMutableBytes(of: &value) { Glibc.read(read, $0.baseAddress, 8) } == 8 ? value : nil
    }
}

func median(_ samples: [Double]) -> Double { samples.sorted()[samples.count / 2] }

let asks = Pipe(), answers = Pipe()
// The parent has used it: all its threads are there.
for load in loads.prefix(4) { _ = await load.run() }
let child = try ForkGuard.fork {
    close(asks.write)
    while let index = asks.receive() { answers.send(await loads[Int(index)].run()) }
    return 0
}
close(asks.read)
for (index, load) in loads.enumerated() {
    var parents: [Double] = [], childs: [Double] = []
    for round in 0...rounds {
        // Who comes second finds the other's traces in the caches: they change places.
        for isChild in round % 2 == 0 ? [false, true] : [true, false] {
            let sample: Double
            if isChild {
                asks.send(Double(index))
                sample = answers.receive()!
            } else {
                sample = await load.run()
            }
            if round > 0 { isChild ? childs.append(sample) : parents.append(sample) }
        }
    }
    let ratio = median(zip(childs, parents).map { $0 / $1 })
    print(load.name, load.isLateness ? "late" : "a call", median(parents), median(childs), ratio, separator: "|")
}
close(asks.write)
let end = try child.wait(timeout: .seconds(5))
precondition(end == .exited(0))

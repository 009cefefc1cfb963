import CBench
import ForkGuard
import Glibc

/// A fork with 100,000 live `ForkMutex` against a fork with the same bytes of plain heap dirtied, in two processes of their own that take turns.
/// Both use one lock in parent and child. Page faults next to those of a process with one lock.
func benchmarkForks() {
    let rounds = 200
    let many = Twin(.locks)
    let plain = Twin(.heap)
    let one = Twin(.nothing)
    var samples: [[bench_fork]] = [[], [], []]
    for round in 0..<rounds + 5 {
        for (index, twin) in [many, plain, one].enumerated() {
            let sample = twin.fork()
            if round >= 5 { samples[index].append(sample) }
        }
    }
    for twin in [many, plain, one] { twin.end() }
    let times = samples.map { median($0.map { Double($0.nanoseconds) }) / 1000 }
    let totals = samples.map { median($0.map { Double($0.total_nanoseconds) }) / 1000 }
    let parentFaults = samples.map { median($0.map { Double($0.parent_faults) }) }
    let childFaults = samples.map { median($0.map { Double($0.child_faults) }) }
    print("fork, medians of \(rounds) interleaved rounds, microseconds; page faults")
    for (index, name) in ["100,000 ForkMutex", "the same bytes of plain heap", "one ForkMutex"].enumerated() {
        print(
            "  \(name): fork \(rounded(times[index])), fork to reaped \(rounded(totals[index])), faults in the parent "
                + "\(rounded(parentFaults[index])), in the child \(rounded(childFaults[index]))")
    }
    print("  100,000 ForkMutex / plain heap, fork: \(rounded(times[0] / times[1], places: 3))  (promised: at most 1.05)")
    print("  100,000 ForkMutex / plain heap, fork to reaped: \(rounded(totals[0] / totals[1], places: 3))")
    print("  faults with 100,000 less faults with one: parent \(rounded(parentFaults[0] - parentFaults[2])), ", terminator: "")
    print("child \(rounded(childFaults[0] - childFaults[2]))  (promised: none more)")
}

/// A process that holds what is measured, and forks when it is asked to.
private final class Twin {
    enum Load { case locks, heap, nothing }

    private let requests: Int32
    private let answers: Int32
    private let child: ChildProcess

    init(_ load: Load) {
        let request = Twin.pipe(), answer = Twin.pipe()
        child = try! ForkGuard.fork {
            close(request.write)
            close(answer.read)
            Twin.serve(load, requests: request.read, answers: answer.write)
            return 0
        }
        close(request.read)
        close(answer.write)
        requests = request.write
        answers = answer.read
    }

    func fork() -> bench_fork {
        var go: UInt8 = 1
        precondition(write(requests, &go, 1) == 1)
        var sample = bench_fork()
        precondition(read(answers, &sample, MemoryLayout<bench_fork>.size) == MemoryLayout<bench_fork>.size)
        return sample
    }

    func end() {
        // Not by closing: the twins that were forked later hold copies of this pipe.
        var go: UInt8 = 0
        precondition(write(requests, &go, 1) == 1)
        close(requests)
        close(answers)
        precondition((try? child.wait(timeout: .seconds(10))) == .exited(0))
    }

    private static func pipe() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        precondition(Glibc.pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    private static func serve(_ load: Load, requests: Int32, answers: Int32) {
        let count = 100_000
        let touched = ForkMutex(0)
        var mutexes: [ForkMutex<Int>] = []
        var heap: [UnsafeMutableRawPointer] = []
        switch load {
        case .locks:
            mutexes = (0..<count).map { ForkMutex($0) }
            for mutex in mutexes { mutex.withLock { $0 &+= 1 } }
        case .heap:
            // What a ForkMutex<Int> allocates: the object, the lock, the value.
            for _ in 0..<count {
                for size in [objectSize, 32, 8] {
                    let bytes = malloc(size)!
                    memset(bytes, 1, size)
                    heap.append(bytes)
                }
            }
        case .nothing:
            break
        }
        startIdleThread()
        let box = Unmanaged.passUnretained(touched)
        var go: UInt8 = 0
        while read(requests, &go, 1) == 1, go == 1 {
            var sample = bench_fork_and_touch(
                { Unmanaged<ForkMutex<Int>>.fromOpaque($0!).takeUnretainedValue().withLock { $0 &+= 1 } }, box.toOpaque())
            precondition(write(answers, &sample, MemoryLayout<bench_fork>.size) == MemoryLayout<bench_fork>.size)
        }
        withExtendedLifetime((mutexes, heap, touched)) {}
    }
}

/// Object header, two pointers, the policy.
private let objectSize = 16 + 8 + 8 + 16

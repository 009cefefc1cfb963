import ForkGuard
import Glibc

/// What registered resources add to a fork, from ForkGuard's own reports.
func benchmarkResources() {
    print("registered resources, medians of 50 forks each, nanoseconds for each resource")
    for count in [1_000, 10_000] {
        measure((0..<count).map { _ in Client() }, "that only discard")
        measure((0..<count).map { _ in Talker() }, "that have a prepare and a resume of their own")
    }
}

private func measure(_ resources: [some ForkSafe], _ what: String) {
    let registrations = resources.map { ForkGuard.register($0, name: "client") }
    let reports = withExtendedLifetime(resources) { (0..<50).map { _ in forkAndReport() } }
    registrations.forEach { $0.cancel() }
    let count = Double(resources.count)
    let parent = median(reports.map { Double(($0.parent.prepareHooks + $0.parent.hooksAfter).nanoseconds) / count })
    let child = median(reports.map { Double($0.childHooksNanoseconds) / count })
    print("  \(resources.count) \(what): prepare and parent \(rounded(parent))  (promised: at most 100), child \(rounded(child))")
}

/// What adopted descriptors add to a fork, from reports of forks with and without them.
func benchmarkDescriptors() {
    print("adopted descriptors, medians of 50 forks each, nanoseconds in the child for each descriptor")
    raiseLimit()
    for (what, inChild) in [("tombstoned", ForkDescriptor.InChild.tombstone), ("reopened", .reopen), ("kept", .keep)] {
        let count = 10_000
        let without = median((0..<50).map { _ in Double(forkAndReport().childPhasesNanoseconds) })
        let tokens = (0..<count).map { _ in
            try! ForkDescriptor(inChild) {
                inChild == .reopen ? open("/dev/zero", O_RDONLY | O_CLOEXEC) : socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            }
        }
        let with = median((0..<50).map { _ in Double(forkAndReport().childPhasesNanoseconds) })
        tokens.forEach { try! $0.close() }
        let goal = inChild == .tombstone ? "  (promised: at most 1000)" : ""
        print("  \(count) \(what): \(rounded((with - without) / Double(count)))\(goal)")
    }
}

private final class Client: ForkSafe {
    func discardAfterFork() {}
}

private final class Talker: ForkSafe {
    func prepareForFork() {}
    func resumeAfterFork() {}
    func discardAfterFork() {}
}

private struct Reports {
    let parent: ForkReport
    let childPhasesNanoseconds: Int64
    let childHooksNanoseconds: Int64
}

private func forkAndReport() -> Reports {
    var ends: [Int32] = [-1, -1]
    precondition(pipe(&ends) == 0)
    let write = ends[1]
    let child = try! ForkGuard.fork {
        let report = ForkGuard.lastReport!
        var times = [report.childPhases.nanoseconds, report.hooksAfter.nanoseconds]
        return Glibc.write(write, &times, 16) == 16 ? 0 : 1
    }
    let parent = ForkGuard.lastReport!
    var times: [Int64] = [0, 0]
    precondition(try! child.wait() == .exited(0) && read(ends[0], &times, 16) == 16)
    ends.forEach { close($0) }
    return Reports(parent: parent, childPhasesNanoseconds: times[0], childHooksNanoseconds: times[1])
}

private func raiseLimit() {
    var limit = rlimit()
    getrlimit(.init(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, 20_000))
    setrlimit(.init(RLIMIT_NOFILE.rawValue), &limit)
}

extension Duration {
    fileprivate var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}

import CForkGuard
import ForkGuard
import Glibc

/// What hooks and registered resources add to a fork, from ForkGuard's own reports.
func benchmarkResources() -> [Table] {
    let rounds = rounds(50)
    var rows: [Row] = []
    for count in [1_000, 10_000] {
        // Each registers one, and returns what cancels it.
        let kinds: [(String, () -> () -> Void)] = [
            ("resource that only discards", { ForkGuard.register(keep(Client()), name: "client").cancel }),
            ("resource with a prepare and a resume of its own", { ForkGuard.register(keep(Talker()), name: "talker").cancel }),
            ("onFork with three empty closures", { ForkGuard.onFork(name: "closures", prepare: {}, parent: {}, child: {}).cancel }),
            ("resource of C with three empty callbacks", registerFromC),
        ]
        var samples = [[Reports]](repeating: [], count: kinds.count)
        for round in 0...rounds {
            for (index, kind) in kinds.enumerated() {
                let registrations = (0..<count).map { _ in kind.1() }
                // At its first fork a resource says which phases it does not have.
                _ = forkAndReport()
                if round > 0 { samples[index].append(forkAndReport()) }
                registrations.forEach { cancel in cancel() }
                kept = []
            }
        }
        for ((name, _), reports) in zip(kinds, samples) {
            let parent = median(reports.map { Double(($0.parent.prepareHooks + $0.parent.hooksAfter).nanoseconds) / Double(count) })
            let child = median(reports.map { Double($0.childHooksNanoseconds) / Double(count) })
            rows.append(Row("\(name), one of \(count), all phases of the parent", parent, "ns", goal: 100))
            rows.append(Row("\(name), one of \(count), child", child, "ns"))
        }
    }
    return [
        Table(
            title: "Hooks and registered resources",
            method: "what each adds to a fork; medians of \(rounds) forks, the kinds in turns", rows: rows)
    ]
}

private func registerFromC() -> () -> Void {
    var resource = forkguard_resource()
    resource.prepare = { _ in 0 }
    resource.parent = { _ in 0 }
    resource.child = { _ in 0 }
    let id = forkguard_register_resource(&resource)
    return { _ = forkguard_unregister(id) }
}

// Registrations are weak. Main thread only.
nonisolated(unsafe) private var kept: [any ForkSafe] = []

private func keep<Resource: ForkSafe>(_ resource: Resource) -> Resource {
    kept.append(resource)
    return resource
}

/// What adopted descriptors add to a fork, from reports of forks with and without them.
func benchmarkDescriptors() -> [Table] {
    let rounds = rounds(50)
    raiseLimit()
    var rows: [Row] = []
    for (what, inChild) in [("tombstoned", ForkDescriptor.InChild.tombstone), ("reopened", .reopen), ("kept", .keep)] {
        let count = 10_000
        let without = median((0..<rounds).map { _ in Double(forkAndReport().childPhasesNanoseconds) })
        let tokens = (0..<count).map { _ in
            try! ForkDescriptor(inChild) {
                inChild == .reopen ? open("/dev/zero", O_RDONLY | O_CLOEXEC) : socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            }
        }
        let with = median((0..<rounds).map { _ in Double(forkAndReport().childPhasesNanoseconds) })
        tokens.forEach { try! $0.close() }
        rows.append(Row("one of 10000, \(what)", (with - without) / Double(count), "ns", goal: inChild == .tombstone ? 1000 : nil))
    }
    return [
        Table(
            title: "Adopted descriptors",
            method: "what each adds to a fork in the child; medians of \(rounds) forks with them, less those without", rows: rows)
    ]
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

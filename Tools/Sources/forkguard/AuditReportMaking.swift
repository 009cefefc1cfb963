internal import CInspect

extension AuditReport {
    init(_ audit: Audit, command: [String], process: Int32, seconds: Double, timedOut: Bool) {
        let found = Set(audit.findings.flatMap(\.kinds).map(ObjectIdentifier.init))
        let rank = { (kind: AuditedForkKind) in found.contains(ObjectIdentifier(kind)) ? 2 : kind.vanished.items.isEmpty ? 0 : 1 }
        let kinds = audit.kinds.sorted { (rank($0), $0.count) > (rank($1), $1.count) }
        let ids = Dictionary(uniqueKeysWithValues: kinds.enumerated().map { (ObjectIdentifier($1), "F\($0 + 1)") })
        let forks = kinds.map { ForkKind($0, id: ids[ObjectIdentifier($0)] ?? "", audit) }
        self.init(
            command: command, process: process, exitStatus: nil, signal: nil, timedOut: timedOut,
            seconds: (seconds * 1000).rounded() / 1000,
            processes: audit.notes.processes, forkCount: kinds.reduce(0) { $0 + $1.count },
            findings: audit.findings.sorted { $0.name < $1.name }.map { finding in
                let text = FindingText.of(finding.name)
                return Finding(
                    name: finding.name, title: text.title, explanation: text.explanation, fix: text.fix, count: finding.count,
                    forks: finding.kinds.compactMap { ids[ObjectIdentifier($0)] }, details: finding.details, places: finding.places)
            },
            forks: forks,
            notes: audit.notes.lines + Self.risks(forks, audit.findings.map(\.name)))
    }

    /// A lock that was held, of which nothing came.
    private static func risks(_ forks: [ForkKind], _ findings: [String]) -> [String] {
        guard !findings.contains("lock-of-vanished-thread") else { return [] }
        let risky = forks.filter { !$0.held.isEmpty && $0.children.executed < $0.count - $0.failed }
        guard !risky.isEmpty else { return [] }
        let locks = Set(risky.flatMap { $0.held.map { $0.symbol ?? $0.address } }).sorted()
        let times = risky.reduce(0) { $0 + $1.held.reduce(0) { $0 + $1.count } }
        return [
            """
            lock-held-at-fork: locks were held by other threads at forks \(times) times (\(locks.prefix(5).joined(separator: ", "))\
            \(locks.count > 5 ? " and \(locks.count - 5) more" : "")), and no child wanted one of them this time. In \
            \(risky.map(\.id).joined(separator: ", ")).
            """
        ]
    }
}

extension AuditReport.ForkKind {
    fileprivate init(_ kind: AuditedForkKind, id: String, _ audit: Audit) {
        self.init(
            id: id, count: kind.count, failed: kind.failed, via: kind.via, threads: kind.threads, inSignalHandler: kind.inSignalHandler,
            stack: kind.stack, children: audit.children(of: kind), threadsReadAt: kind.threadsReadAt,
            vanished: kind.vanished.items.map { item in
                .init(
                    name: item.key.name, count: item.count, call: Self.name(item.key.call), doing: Self.doing(item.key.call),
                    stack: item.key.stack)
            },
            held: kind.held.items.map { item in
                .init(
                    kind: item.key.kind, address: item.note, symbol: item.key.symbol, thread: item.key.thread, count: item.count,
                    stack: item.key.stack)
            },
            descriptors: kind.descriptors.items.map { item in
                let uses = audit.uses(of: item.key, in: kind)
                let first = item.note
                return .init(
                    number: first.fd, kind: first.kind, type: first.type, listening: first.listening, local: first.local, peer: first.peer,
                    path: first.path, offset: first.offset, targets: first.targets, count: item.count, usedByParent: uses.parent,
                    usedByChild: uses.child)
            },
            descriptorsLeftOff: kind.descriptors.leftOff)
    }

    private static func name(_ call: Int64) -> String? {
        if call < 0 { return nil }
        return inspect_call_name(call).map { String(cString: $0) } ?? "system call \(call)"
    }

    private static func doing(_ call: Int64) -> String {
        if call == AuditedForkKind.Vanished.unknownCall { return "does what nobody may see" }
        if call < 0 { return "runs" }
        return inspect_call_meaning(call).map { String(cString: $0) } ?? "is in a system call"
    }
}

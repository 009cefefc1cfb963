internal import CInspect
internal import Foundation

/// What the packets of CMD's processes add up to.
final class Audit {
    private(set) var processes: [Int32: AuditedProcess] = [:]
    private var forks: [String: AuditedFork] = [:]
    private(set) var kinds: [AuditedForkKind] = []
    private var kindByStack: [KindKey: AuditedForkKind] = [:]
    private var symbolizers: [UInt64: Symbolizer] = [:]
    private(set) var findings: [AuditFinding] = []
    private var reads: [ReadKey: (count: Int, last: UInt64)] = [:]
    private(set) var notes = AuditNotes()
    private let decoder = JSONDecoder()

    private struct KindKey: Hashable {
        let via: String
        let stack: [AuditReport.Frame]
    }

    private struct ReadKey: Hashable {
        let sum: UInt64
        let stack: [AuditEvent.Address]
    }

    /// Takes a packet of the process that connected as `sender`. `go` tells its sender, which may wait for it, to go on.
    func take(_ packet: [UInt8], from sender: Int32, go: () -> Void) {
        let event: AuditEvent
        do {
            event = try decoder.decode(AuditEvent.self, from: Data(packet))
        } catch {
            notes.unreadable += 1
            go()  // in case it waits
            return
        }
        // Its numbers would be other processes' here.
        guard event.pid == sender else {
            notes.strangers += 1
            go()
            return
        }
        let process = self.process(event.pid)
        // It could not be executed after all.
        if process.end == .executed && event.event != "process" { process.end = nil }
        switch event.event {
        case "process": begin(process, event)
        case "prepare": prepare(process, event, go)
        case "forked": if let fork = event.fork.flatMap({ forks[$0] }), (event.child ?? -1) < 0 { fork.kind.failed += 1 }
        case "held": held(process, event)
        case "use": use(process, event)
        case "waits": waits(process, event)
        case "got": process.waits.removeAll { $0.address == event.address?.value }
        case "exec": process.end = .executed
        case "exit": process.end = .exited
        case "finding": finding(process, event)
        default: break  // of a newer library
        }
    }

    // MARK: Processes

    private func process(_ id: Int32) -> AuditedProcess {
        if let process = processes[id] { return process }
        let process = AuditedProcess(id)
        processes[id] = process
        return process
    }

    private func begin(_ known: AuditedProcess, _ event: AuditEvent) {
        notes.processes += 1
        known.left = nil
        var process = known
        if known.end != nil {
            // The same id: the program that it executed, or, much later, another process.
            known.forget()
            processes[event.pid] = nil
            process = self.process(event.pid)
        }
        guard event.origin != "start", let fork = event.fork.flatMap({ forks[$0] }) else { return }
        guard fork.process != event.pid, fork.child == nil || fork.child === process else { return }
        process.fork = fork
        process.symbolizer = processes[fork.process]?.symbolizer
        fork.child = process
    }

    /// What is mapped in the process now; what was, if it is gone.
    private func symbolizer(_ process: AuditedProcess) -> Symbolizer? {
        let sum = inspect_objects_sum(process.id)
        guard sum != 0 else { return process.symbolizer }
        if let known = symbolizers[sum] {
            process.symbolizer = known
        } else if let new = Symbolizer(process.id, sum: sum), inspect_objects_sum(process.id) == sum {
            // Not where it executed a program meanwhile.
            if symbolizers.count >= 64 { symbolizers.removeAll() }
            symbolizers[sum] = new
            process.symbolizer = new
        }
        return process.symbolizer
    }

    private func frames(_ process: AuditedProcess, _ stack: [AuditEvent.Address]?) -> [AuditReport.Frame] {
        guard let stack, !stack.isEmpty else { return [] }
        return symbolizer(process)?.frames(returningTo: stack)
            ?? stack.map { AuditReport.Frame(address: "0x" + String($0.value, radix: 16)) }
    }

    /// The connection of a process has ended.
    func leave(_ id: Int32) { processes[id]?.left = Clock.nanoseconds }

    // MARK: Forks

    private func prepare(_ process: AuditedProcess, _ event: AuditEvent, _ go: () -> Void) {
        let symbolizer = symbolizer(process)
        let threads = event.threads ?? []
        // Each look stops the threads for a moment: the first forks of a kind tell what there is to know.
        let key = ReadKey(sum: symbolizer?.sum ?? 0, stack: event.stack ?? [])
        let reads = self.reads[key] ?? (0, 0)
        let looks = !threads.isEmpty && (reads.count < 5 || event.time > reads.last &+ 1_000_000_000)
        var copies: ThreadCopies?
        if looks {
            self.reads[key] = (reads.count + 1, event.time)
            copies = ThreadCopies(of: threads.map(\.tid), in: process.id)
        }
        go()

        let stack = frames(process, event.stack)
        let via = event.via ?? "fork"
        let kindKey = KindKey(via: via, stack: stack)
        let kind = kindByStack[kindKey] ?? AuditedForkKind(via: via, stack: stack)
        if kindByStack[kindKey] == nil {
            kindByStack[kindKey] = kind
            kinds.append(kind)
        }
        if event.signal_handler == true { kind.inSignalHandler = true }
        if let name = event.thread, !kind.threads.contains(name), kind.threads.count < 20 { kind.threads.append(name) }
        let descriptors = event.descriptors ?? []
        for descriptor in descriptors { kind.descriptors.add(.init(descriptor), descriptor) }
        // Mostly they are what they were: then they are there once.
        if kind.lastDescriptors != descriptors { kind.lastDescriptors = descriptors }
        let fork = AuditedFork(event.fork ?? "\(event.pid).?", kind, process: event.pid, kind.lastDescriptors)
        forks[fork.id] = fork
        kind.forks.append(fork)
        guard let copies else { return }
        kind.threadsReadAt += 1
        notes.note(copies)
        for (index, thread) in threads.enumerated() {
            var stack = symbolizer.map { copies.frames(index, $0) } ?? []
            if stack.isEmpty, let symbolizer, let counter = thread.pc { stack = symbolizer.frames(at: [counter.value]) }
            // Who may not be traced may not be asked for its call either, not even by its own process: then it need not be running.
            let call = copies.call(index) ?? (copies.wereRefused && thread.call < 0 ? AuditedForkKind.Vanished.unknownCall : thread.call)
            kind.vanished.add(.init(name: thread.name ?? "", call: call, stack: stack), ())
        }
    }

    private func held(_ process: AuditedProcess, _ event: AuditEvent) {
        guard let fork = event.fork.flatMap({ forks[$0] }), let mutexes = event.mutexes else { return }
        for mutex in mutexes {
            let symbol = symbolizer(process)?.variable(mutex.address.value)
            fork.kind.held.add(
                .init(
                    kind: mutex.kind ?? "mutex", symbol: symbol, address: symbol == nil ? mutex.address.value : nil,
                    thread: mutex.thread ?? "", stack: frames(process, mutex.stack)),
                "0x" + String(mutex.address.value, radix: 16))
        }
    }

    // MARK: What they do then

    private func use(_ process: AuditedProcess, _ event: AuditEvent) {
        guard let fork = event.fork.flatMap({ forks[$0] }), let number = event.fd, let how = event.how else { return }
        let isChild = event.side == "child"
        if isChild && fork.uses[number]?.childSaidGoodbye == true { return }
        let place = AuditReport.Place(side: isChild ? "child" : "parent", what: how, stack: frames(process, event.stack))
        var uses = fork.uses[number] ?? .init()
        if isChild {
            if !uses.child.contains(how) { uses.child.append(how) }
        } else {
            if !uses.parent.contains(how) { uses.parent.append(how) }
        }
        if uses.places.count < 8 { uses.places.append(place) }
        fork.uses[number] = uses
    }

    private func waits(_ process: AuditedProcess, _ event: AuditEvent) {
        let on = event.on ?? "something"
        var text = on == "join" ? "for the end of a thread" : "for a \(on)"
        if let address = event.address?.value, address != 0, on != "join" {
            let symbol = symbolizer(process)?.variable(address)
            text += " (\(symbol ?? "0x" + String(address, radix: 16)))"
        }
        if let thread = event.tid_gone, thread != 0 {
            let name = event.thread_gone.map { $0.isEmpty ? "" : " '\($0)'" } ?? ""
            text += on == "join" ? "\(name) that is not in the child" : " that thread\(name) held at the fork"
        }
        let place = AuditReport.Place(side: "child", what: "waits", stack: frames(process, event.stack))
        process.waits.append(.init(since: event.time, address: event.address?.value, text: text, place: place))
    }

    private func finding(_ process: AuditedProcess, _ event: AuditEvent) {
        guard let name = event.name else { return }
        let fork = event.fork.flatMap { forks[$0] } ?? process.fork
        var detail = event.detail ?? ""
        if name == "goodbye-in-child", let fork, let number = event.fd {
            var uses = fork.uses[number] ?? .init()
            uses.childSaidGoodbye = true
            fork.uses[number] = uses
        }
        if let address = event.address?.value, let symbol = symbolizer(process)?.variable(address), !detail.contains(symbol) {
            detail += " (\(symbol))"
        }
        let side = process.fork == nil ? "process" : "child"
        add(name, fork?.kind, detail, [.init(side: side, what: "", stack: frames(process, event.stack))])
    }

    private func add(_ name: String, _ kind: AuditedForkKind?, _ detail: String, _ places: [AuditReport.Place]) {
        let finding =
            findings.first { $0.name == name }
            ?? {
                let new = AuditFinding(name)
                findings.append(new)
                return new
            }()
        finding.add(kind, detail, places)
    }

    // MARK: Still children

    /// Looks at forked children. To be called some times a second; a child counts as hung once it has been still for a second.
    func lookAtChildren() {
        let now = Clock.nanoseconds
        var looked = 0
        for process in processes.values where process.left != nil && !process.isRunning { process.forget() }
        for process in processes.values
        where process.fork != nil && process.end == nil && process.descriptor >= 0 && !process.stillness.isLong {
            guard looked < 64 else { break }
            looked += 1
            let threads = ThreadStillness.threads(of: process.id)
            guard !threads.isEmpty else { continue }  // gone, or at work
            if threads != process.stillness.threads {
                process.stillness = .init(threads: threads, since: now)
            } else if now - process.stillness.since >= 1_000_000_000 {
                process.stillness.isLong = true
                process.stillness.places = stacks(process)
            }
        }
    }

    private func stacks(_ process: AuditedProcess) -> [AuditReport.Place] {
        guard let symbolizer = symbolizer(process) else { return [] }
        let copies = ThreadCopies(of: ThreadStillness.ids(of: process.id), in: process.id)
        notes.note(copies)
        return copies.indices.prefix(8).map { .init(side: "child", what: "waits", stack: copies.frames($0, symbolizer)) }
    }

    /// Whether a child that was still has gone on since.
    private func hasGoneOn(_ process: AuditedProcess) -> Bool {
        let threads = ThreadStillness.threads(of: process.id)
        // Not by their switches: looking at their stacks made one more.
        return !threads.isEmpty && threads.map(\.place) != process.stillness.threads.map(\.place)
    }

    // MARK: The end

    /// What can be told only when all is over.
    func conclude() {
        for fork in forks.values.sorted(by: { $0.id < $1.id }) { concludeUses(fork) }
        concludeSiblings()
        for process in processes.values.sorted(by: { $0.id < $1.id }) { concludeWaits(process) }
    }

    private func concludeUses(_ fork: AuditedFork) {
        for (number, uses) in fork.uses.sorted(by: { $0.key < $1.key }) where !uses.parent.isEmpty && !uses.child.isEmpty {
            guard let descriptor = fork.descriptor(number), let name = descriptor.findingWhenShared(uses) else { continue }
            let detail = """
                descriptor \(number), \(descriptor.inWords): the parent: \(uses.parent.joined(separator: ", ")); \
                the child: \(uses.child.joined(separator: ", "))
                """
            add(name, fork.kind, detail, uses.places)
        }
    }

    /// Children of several forks that use one connection of the parent's, which itself does not.
    private func concludeSiblings() {
        var users: [UInt64: [AuditedFork]] = [:]
        for fork in forks.values {
            for (number, uses) in fork.uses where !uses.child.isEmpty && uses.parent.isEmpty {
                guard let descriptor = fork.descriptor(number), let inode = descriptor.inode, descriptor.isInternetStream else { continue }
                users[inode, default: []].append(fork)
            }
        }
        for (inode, forks) in users where Set(forks.compactMap { $0.child?.id }).count > 1 {
            for fork in forks.sorted(by: { $0.id < $1.id }) {
                guard let descriptor = fork.descriptors.first(where: { $0.inode == inode }) else { continue }
                let uses = fork.uses[descriptor.fd] ?? .init()
                let detail = "descriptor \(descriptor.fd), \(descriptor.inWords): used by \(forks.count) children"
                add("shared-connection", fork.kind, detail, uses.places)
            }
        }
    }

    private func concludeWaits(_ process: AuditedProcess) {
        guard let fork = process.fork, process.end == nil else { return }
        // What crashed in a wait did not hang. Of what was killed, the time tells: nobody gives a child less.
        if let wait = process.waits.last, process.left.map({ $0 > wait.since &+ 500_000_000 }) ?? true {
            add("hung-child", fork.kind, "a child waited \(wait.text)", [wait.place])
        } else if process.stillness.isLong && !hasGoneOn(process) {
            let count = process.stillness.threads.count
            let detail =
                count == 1 ? "its one thread waited for a lock or condition" : "its \(count) threads all waited for locks or conditions"
            add("hung-child", fork.kind, detail, process.stillness.places)
        } else {
            return
        }
        hung.insert(process.id)
    }

    private var hung: Set<Int32> = []

    func children(of kind: AuditedForkKind) -> AuditReport.Children {
        var children = AuditReport.Children()
        for fork in kind.forks {
            guard let child = fork.child else { continue }
            switch child.end {
            case .executed: children.executed += 1
            case .exited: children.exited += 1
            case nil:
                if hung.contains(child.id) { children.hung += 1 }
                if child.isRunning {
                    children.running += 1
                } else {
                    children.killed += 1
                }
            }
        }
        return children
    }

    /// What the two processes of the forks of a kind did with a descriptor.
    func uses(of descriptor: AuditedForkKind.Descriptor, in kind: AuditedForkKind) -> (parent: [String], child: [String]) {
        var parent: Set<String> = []
        var child: Set<String> = []
        for fork in kind.forks where !fork.uses.isEmpty {
            guard let uses = fork.uses[descriptor.fd], let own = fork.descriptor(descriptor.fd), .init(own) == descriptor else { continue }
            parent.formUnion(uses.parent)
            child.formUnion(uses.child)
        }
        return (parent.sorted(), child.sorted())
    }

    /// Sends a signal to all processes that are there; false when there is none.
    func signalAll(_ signal: Int32) -> Bool {
        var any = false
        for process in processes.values where process.isRunning {
            if signal != 0 { _ = inspect_signal_process(process.descriptor, signal) }
            any = true
        }
        return any
    }
}

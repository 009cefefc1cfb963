internal import Foundation

extension AuditReport {
    /// One JSON document with sorted keys, and a newline.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
    }

    /// For people: what is wrong, then the forks.
    func text() -> String {
        var page = Page()
        page.line("== forkguard audit: \(command.joined(separator: " "))")
        page.line(
            "   process \(process), \(ending), \(String(format: "%.1f", seconds)) s: \(forkCount.of("fork")) from "
                + "\(forks.count.of("place")), \(findings.count.of("kind")) of finding")
        for finding in findings { write(finding, &page) }
        let found = Set(findings.flatMap(\.forks))
        let plain = forks.filter { $0.vanished.isEmpty && !found.contains($0.id) }
        let told = forks.filter { !$0.vanished.isEmpty || found.contains($0.id) }
        for kind in told.prefix(max(12, found.count)) { write(kind, &page) }
        write(plain, leftOff: told.count - min(told.count, max(12, found.count)), &page)
        if !notes.isEmpty {
            page.line()
            page.line("-- Notes")
            for note in notes { page.paragraph(note, indent: 3, first: " - ") }
        }
        return page.text
    }

    private var ending: String {
        if timedOut { return "ended by --timeout" }
        if let signal { return "ended by signal \(signal)" }
        return "exit status \(exitStatus ?? 0)"
    }

    private func write(_ finding: Finding, _ page: inout Page) {
        page.line()
        let forks = finding.forks.isEmpty ? "" : ", at \(finding.forks.joined(separator: ", "))"
        page.line("!! \(finding.name): \(finding.title) (\(finding.count.of("time"))\(forks))")
        page.paragraph(finding.explanation, indent: 3)
        for detail in finding.details.prefix(5) { page.paragraph(detail, indent: 5, first: "   * ") }
        if finding.details.count > 5 { page.line("   * and \(finding.details.count - 5) more like these (--json)") }
        for place in finding.places.prefix(4) {
            page.line("   \(place.side)\(place.what.isEmpty ? "" : ", \(place.what)"), at")
            page.stack(place.stack, indent: 7)
        }
        page.paragraph("Fix: \(finding.fix)", indent: 3)
    }

    private func write(_ kind: ForkKind, _ page: inout Page) {
        page.line()
        let who = kind.threads.isEmpty ? "" : ", by thread \(kind.threads.map { "'\($0)'" }.joined(separator: ", "))"
        page.line("-- \(kind.id): \(kind.via), \(kind.count.of("time"))\(who)\(kind.inSignalHandler ? ", in a signal handler" : "")")
        page.stack(kind.stack, indent: 7)
        page.line("   children: \(kind.children.words(failed: kind.failed))")
        // Where the child only executes a program, the rest is of no weight: --json has it.
        if kind.vanished.isEmpty {
            page.line("   no other threads")
        } else {
            page.line("   vanished threads\(kind.threadsReadAt < kind.count ? " (looked at in \(kind.threadsReadAt) of the forks)" : ""):")
            for thread in kind.vanished.prefix(8) {
                let call = thread.call.map { " (\($0))" } ?? ""
                page.line("     '\(thread.name)'\(thread.count > 1 ? " x \(thread.count)" : ""): \(thread.doing)\(call)")
                page.stack(thread.stack, indent: 9, limit: 5)
            }
            if kind.vanished.count > 8 { page.line("     and \(kind.vanished.count - 8) more (--json)") }
        }
        if !kind.held.isEmpty {
            page.line("   locks that they held:")
            for lock in kind.held.prefix(8) {
                let times = lock.count > 1 ? ", \(lock.count) times" : ""
                page.line("     \(lock.kind) \(lock.symbol.map { "\($0), " } ?? "")\(lock.address), by '\(lock.thread)'\(times), taken at")
                page.stack(lock.stack, indent: 9, limit: 5)
            }
            if kind.held.count > 8 { page.line("     and \(kind.held.count - 8) more (--json)") }
        }
        write(kind.descriptors, kind.descriptorsLeftOff, &page)
    }

    /// Where a process with one thread forks and nothing was found: a line for each place.
    private func write(_ kinds: [ForkKind], leftOff: Int, _ page: inout Page) {
        if leftOff > 0 {
            page.line()
            page.line("-- and \(leftOff.of("other place")) where processes with several threads fork, without findings (--json)")
        }
        guard !kinds.isEmpty else { return }
        page.line()
        page.line("-- Without other threads, and without findings")
        for kind in kinds.prefix(12) {
            let program = kind.threads.first.map { " by '\($0)'" } ?? ""
            let place = kind.stack.prefix(2).map(\.inWords).joined(separator: " < ")
            page.line(
                "   \(kind.id): \(kind.via), \(kind.count.of("time"))\(program), \(place); "
                    + "children: \(kind.children.words(failed: kind.failed))"
            )
        }
        if kinds.count > 12 { page.line("   and \(kinds.count - 12) more places (--json)") }
    }

    private func write(_ descriptors: [InheritedDescriptor], _ leftOff: Int, _ page: inout Page) {
        // Standard input, output and error are inherited by everybody.
        let isShared = { (descriptor: InheritedDescriptor) in !descriptor.usedByParent.isEmpty && !descriptor.usedByChild.isEmpty }
        let inherited = descriptors.filter { $0.number > 2 || isShared($0) }
        let worth = inherited.filter(isShared) + inherited.filter { !isShared($0) }
        guard !worth.isEmpty else { return }
        page.line("   inherited descriptors:")
        for descriptor in worth.prefix(12) {
            let times = descriptor.count > 1 ? ", at \(descriptor.count) forks" : ""
            page.line("     \(descriptor.number): \(descriptor.inWords)\(times)\(descriptor.usesInWords)")
        }
        if worth.count + leftOff > 12 { page.line("     and \(worth.count + leftOff - 12) more (--json)") }
    }

    /// Text in lines of at most 110 columns, unless a word is longer.
    private struct Page {
        private(set) var text = ""

        mutating func line(_ line: String = "") { text += line + "\n" }

        mutating func paragraph(_ words: String, indent: Int, first: String? = nil) {
            let margin = String(repeating: " ", count: indent)
            var line = first ?? margin
            var isEmpty = true
            for word in words.split(separator: " ") {
                if !isEmpty && line.count + 1 + word.count > 110 {
                    self.line(line)
                    line = margin
                    isEmpty = true
                }
                line += (isEmpty ? "" : " ") + word
                isEmpty = false
            }
            self.line(line)
        }

        mutating func stack(_ stack: [Frame], indent: Int, limit: Int = 8) {
            let margin = String(repeating: " ", count: indent)
            // What every thread and every program begins with.
            let beginnings: Set = [
                "start_thread", "__clone3", "clone3", "clone", "__clone", "_start", "__libc_start_main", "__libc_start_call_main",
                "__libc_start_main_impl", "__libc_start_main@@GLIBC_2.34",
            ]
            let frames = stack.filter { $0.function.map { !beginnings.contains($0) } ?? true }
            for frame in frames.prefix(limit) { line(margin + frame.inWords) }
            if frames.count > limit { line("\(margin)and \(frames.count - limit) more calls") }
        }
    }
}

extension AuditReport.Children {
    fileprivate func words(failed: Int) -> String {
        let parts = [
            (executed, "executed a program"), (exited, "exited"), (killed, "ended by a signal"), (running, "still running"),
            (failed, "not made: the fork failed"),
        ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        let all = parts.isEmpty ? "none reported" : parts.joined(separator: ", ")
        return hung > 0 ? "\(all); \(hung) HUNG" : all
    }
}

extension AuditReport.InheritedDescriptor {
    fileprivate var inWords: String {
        var words = [type.map { "\($0) \(kind)" } ?? kind]
        if let local, !local.isEmpty { words.append(local) }
        if let peer, !peer.isEmpty { words.append("to \(peer)") }
        if listening == true { words.append("(listening)") }
        // A socket's or pipe's is a number, an epoll set's says what it is.
        if let path, path.hasPrefix("/") { words.append(path) }
        if let offset, kind == "file" { words.append("at offset \(offset)") }
        if let targets, !targets.isEmpty {
            let more = targets.count > 8 ? " and \(targets.count - 8) more" : ""
            words.append("of \(targets.prefix(8).map(String.init).joined(separator: ", "))\(more)")
        }
        return words.joined(separator: " ")
    }

    fileprivate var usesInWords: String {
        let sides = [("the parent", usedByParent), ("the child", usedByChild)].filter { !$0.1.isEmpty }
        return sides.isEmpty ? "" : "; used by " + sides.map { "\($0.0) (\($0.1.joined(separator: ", ")))" }.joined(separator: " and ")
    }
}

extension Int {
    /// "1 fork", "2 forks".
    fileprivate func of(_ noun: String) -> String { "\(self) \(noun)\(self == 1 ? "" : "s")" }
}

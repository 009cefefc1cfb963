internal import CInspect
internal import ForkGuard
internal import Glibc

/// What this machine gives ForkGuard.
struct Doctor: Codable {
    var lines: [Line]

    struct Line: Codable {
        /// "kernel", "libc", "swift", "wipe-on-fork page", ...
        var name: String
        /// Whether it is there.
        var isThere: Bool
        /// What was found.
        var found: String
        /// What follows.
        var consequence: String
    }

    /// Tries everything; takes some milliseconds, and for the compiler's version a second at most.
    static func examine(_ environment: Environment) -> Doctor {
        var system = utsname()
        uname(&system)
        let swift = ToolVersion.first(of: "swift", ["--version"], path: environment["PATH"])
        var lines = [
            Line(
                name: "kernel", isThere: true, found: "\(text(system.sysname)) \(text(system.release)) on \(text(system.machine))",
                consequence: "what it gives is tried below"),
            Line(
                name: "libc", isThere: true, found: words(inspect_libc_name(), inspect_libc_version()),
                consequence: "the preloaded libraries are for programs of this libc"),
            Line(
                name: "swift", isThere: swift != nil, found: swift ?? "none in PATH",
                consequence: swift == nil
                    ? "no compiler: programs that are built already run all the same"
                    : "the cures of ForkGuardRuntime were tested with Swift 6.3"),
        ]
        lines.append(wipe())
        let barrier = inspect_has_membarrier()
        lines.append(
            Line(
                name: "membarrier", isThere: barrier, found: barrier ? "private, expedited: works" : "refused",
                consequence: barrier ? "locking needs no fence" : "each lock and unlock has a full fence: some 6 ns more"))
        let handlers = inspect_runs_handlers()
        lines.append(
            Line(
                name: "atfork handlers", isThere: handlers, found: handlers ? "prepare, parent and child ran" : "did not run",
                consequence: handlers
                    ? "ForkGuard is told of each fork() of libc's"
                    : "nothing is guarded: children find out late that they are new processes"))
        let descriptors = inspect_has_process_descriptors()
        lines.append(
            Line(
                name: "pidfd", isThere: descriptors, found: descriptors ? "opens and signals" : "refused",
                consequence: descriptors
                    ? "a signal never reaches a stranger with the child's number"
                    : "children are told by their numbers: a signal that is sent late can reach a stranger; waiting polls"))
        lines.append(trace())
        lines += cures()
        lines += [(PreloadLibrary.guarding, "run"), (.auditing, "audit")].map { library, command in
            do {
                return Line(
                    name: library.rawValue, isThere: true, found: try library.path(environment), consequence: "`forkguard \(command)` works"
                )
            } catch {
                return Line(
                    name: library.rawValue, isThere: false, found: "not found",
                    consequence:
                        "`forkguard \(command)` does not work: cmake -B build && cmake --build build, then FORKGUARD_LIBRARY_PATH=.../build"
                )
            }
        }
        return Doctor(lines: lines)
    }

    private static func wipe() -> Line {
        let works = inspect_wipes_on_fork()
        let cost = Int(inspect_system_call_nanoseconds().rounded())
        return Line(
            name: "wipe-on-fork page", isThere: works, found: works ? "a child found it wiped" : "refused, or not wiped",
            consequence: works
                ? "asking for the generation costs one load and one compare" : "each generation check costs a system call, \(cost) ns here")
    }

    private static func trace() -> Line {
        let error = inspect_may_trace()
        let why = error == 0 ? "" : ": \(String(cString: strerror(error)))"
        return Line(
            name: "ptrace", isThere: error == 0, found: error == 0 ? "of children: permitted" : "of children: refused\(why)",
            consequence: error == 0
                ? "`forkguard audit` shows the stacks of all threads"
                : "`forkguard audit` shows of other threads only their system calls (kernel.yama.ptrace_scope, CAP_SYS_PTRACE)")
    }

    private static func cures() -> [Line] {
        let cures = ForkGuard.runtimeSupport
        if cures.isEmpty {
            return [
                Line(
                    name: "runtime cures", isThere: false, found: "none is known here",
                    consequence: "children use only what they locked themselves")
            ]
        }
        return cures.map { cure in
            Line(
                name: "cure \(cure.name)", isThere: cure.isOn, found: cure.explanation,
                consequence: cure.isOn
                    ? "on where ForkGuardRuntime is linked"
                    : "what it cures can hang a child: see Docs/what-survives-fork-in-swift.md")
        }
    }

    private static func words(_ words: UnsafePointer<CChar>?...) -> String {
        words.compactMap { $0.map { String(cString: $0) } }.filter { !$0.isEmpty }.joined(separator: " ")
    }
}

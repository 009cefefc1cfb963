internal import ArgumentParser
internal import Glibc

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Runs a program with ForkGuard's gate around its pthread mutexes, read-write locks and conditions.",
        usage: "forkguard run [--deadline MS] [--exclude NAMES] [--torn refuse|wait] -- CMD ARGS",
        discussion: """
            CMD takes this process's place: its process id, signals, descriptors and exit status are its own. \
            What it starts is guarded, too.
            A program that ld.so loads nothing into (static, setuid) runs unguarded, with a warning.

            Exit status: CMD's own; 127 when CMD is not found, 126 when it cannot be executed, 125 for bad options and missing libraries.
            """)

    @Option(help: ArgumentHelp("How long a fork may wait for those inside, 1 to 3600000.", valueName: "ms"))
    var deadline: Int?

    @Option(help: ArgumentHelp("Programs and libraries to leave alone, by file name, separated by commas.", valueName: "names"))
    var exclude: String?

    @Option(help: "What a child does that locks what a thread held past the deadline: refuse, with a message; or wait, as without us.")
    var torn: Torn?

    @Argument(parsing: .postTerminator, help: ArgumentHelp("The program and its arguments.", valueName: "cmd args"))
    var command: [String] = []

    enum Torn: String, ExpressibleByArgument, CaseIterable {
        case refuse, wait
    }

    func validate() throws {
        if command.isEmpty { throw ValidationError("CMD is missing: forkguard run -- CMD ARGS") }
        if let deadline, !(1...3_600_000).contains(deadline) {
            throw ValidationError("--deadline: \(deadline) is not within 1 and 3600000 milliseconds")
        }
        if let exclude, exclude.split(separator: ",", omittingEmptySubsequences: false).contains(where: \.isEmpty) {
            throw ValidationError("--exclude: '\(exclude)' has an empty name in it")
        }
    }

    func run() throws {
        var environment = Environment()
        let program = try Program(command, path: environment["PATH"])
        let library = try PreloadLibrary.guarding.path(environment)
        switch program.unreachable {
        case .refusesPreload(let why):
            Console.error("forkguard: \(program.path): \(why): it runs, and is not guarded\n")
        case .ignoresPreload(let why):
            Console.error("forkguard: \(program.path): \(why): it runs, and is not guarded\n")
            try environment.preload(library)  // for what it starts
        case nil:
            try environment.preload(library)
        }
        if let deadline { environment["FORKGUARD_DEADLINE_MS"] = String(deadline) }
        if let exclude { environment["FORKGUARD_PRELOAD_EXCLUDE"] = exclude }
        if let torn { environment["FORKGUARD_TORN"] = torn.rawValue }
        withCStrings(program.arguments) { arguments in
            withCStrings(environment.entries) { entries in _ = execve(program.executable, arguments, entries) }
        }
        throw Failure("\(program.path): \(String(cString: strerror(errno)))", status: errno == ENOENT ? 127 : 126)
    }
}

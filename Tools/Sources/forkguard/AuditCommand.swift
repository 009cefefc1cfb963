internal import ArgumentParser
internal import Foundation
internal import Glibc

struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Runs a program, watches its forks without changing their course, and reports what is wrong with them.",
        usage: "forkguard audit [--json] [--output FILE] [--timeout SECONDS] [--fail-on-findings] -- CMD ARGS",
        discussion: """
            The report comes on standard error, or in FILE, when CMD has ended; CMD's own input and output are untouched. \
            Signals are handed on to it. Docs/reading-an-audit.md explains what is reported.

            Exit status: CMD's own, 128 and the signal's number when a signal ended it; 3 with --fail-on-findings when there are any; \
            124 when --timeout ended it; 127 when CMD is not found, 126 when it cannot be executed, 125 for bad options, missing \
            libraries and a CMD that nothing can be loaded into (static, setuid).
            """)

    @Flag(help: "The report as JSON.")
    var json = false

    @Option(help: ArgumentHelp("Where the report goes, instead of standard error.", valueName: "file"))
    var output: String?

    @Option(help: ArgumentHelp("End CMD, and what it started, after so long, and report.", valueName: "seconds"))
    var timeout: Double?

    @Flag(help: "Exit with status 3 when there are findings.")
    var failOnFindings = false

    @Argument(parsing: .postTerminator, help: ArgumentHelp("The program and its arguments.", valueName: "cmd args"))
    var command: [String] = []

    func validate() throws {
        if command.isEmpty { throw ValidationError("CMD is missing: forkguard audit -- CMD ARGS") }
        if let timeout, !(timeout > 0 && timeout <= 1_000_000) {
            throw ValidationError("--timeout: \(timeout) is not a number of seconds above 0, up to 1000000")
        }
    }

    func run() throws {
        let environment = Environment()
        let program = try Program(command, path: environment["PATH"])
        switch program.unreachable {
        case .ignoresPreload(let why), .refusesPreload(let why): throw Failure("\(program.path): \(why), so it cannot be audited")
        case nil: break
        }
        let library = try PreloadLibrary.auditing.path(environment)
        // Before CMD starts: nobody is to run a program for an hour for a report that cannot be written.
        let destination = try output.map { path in
            let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
            guard descriptor >= 0 else { throw Failure("--output: \(path): \(String(cString: strerror(errno)))") }
            return descriptor
        }
        let report = try Auditor(program, command, library: library, environment: environment).watch(seconds: timeout)
        guard Console.write(try json ? report.json() : report.text(), to: destination ?? 2) else {
            throw Failure("the report could not be written\(output.map { " to \($0)" } ?? ""): \(String(cString: strerror(errno)))")
        }
        if failOnFindings && !report.findings.isEmpty { throw ExitCode(3) }
        if report.timedOut { throw ExitCode(124) }
        throw ExitCode(report.exitStatus ?? 128 + (report.signal ?? 0))
    }
}

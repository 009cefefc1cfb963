internal import ArgumentParser
internal import Glibc

@main
struct Tool: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forkguard",
        abstract: "Runs programs guarded against what fork() does to threads, and finds out what it does to them.",
        subcommands: [RunCommand.self, AuditCommand.self, DoctorCommand.self])

    /// As ParsableCommand's, but for the exit status of bad arguments: 125, as of env(1) and timeout(1).
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Console.error("forkguard: \(failure)\n")
            Glibc.exit(failure.status)
        } catch let code as ExitCode {
            Glibc.exit(code.rawValue)
        } catch {
            if exitCode(for: error).isSuccess { exit(withError: error) }
            Console.error(fullMessage(for: error) + "\n")
            Glibc.exit(125)
        }
    }
}

import Foundation
import Wire

/// A run of a pre-forking server of Examples: `preforking-server`, or the daemon in C, which prints the same.
final class PreforkingServerProcess: Sendable {
    private let process: LoggedProcess
    /// Where it listens.
    let address: ServerAddress

    /// Runs `preforking-server`, and waits until it listens. It ends itself after a minute.
    convenience init(redis: (host: String, port: UInt16), environment: [String: String] = [:]) throws {
        let directory = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        try self.init(
            directory.appendingPathComponent("preforking-server").path,
            ["--redis", "\(redis.host):\(redis.port)", "--workers", "4", "--seconds", "60"], environment: environment)
    }

    /// Runs one, and waits until it listens.
    init(_ executable: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        process = try LoggedProcess(executable, arguments, environment: environment)
        let first = try process.line(timeout: .seconds(10)) { _ in true }
        let words = first.split(whereSeparator: { " :,".contains($0) })
        guard words.count >= 4, words[0] == "listening", let port = UInt16(words[3]) else {
            throw Unexpected(description: "it printed '\(first)'")
        }
        address = try ServerAddress(host: "127.0.0.1", port: port)
    }

    struct Unexpected: Error, CustomStringConvertible { let description: String }

    /// How many lines there are by now.
    var printed: Int { process.lines.count }

    /// Those of the workers that it has forked, in that order, after a number of lines.
    func forked(after begin: Int = 0) -> [pid_t] { workers("forked", after: begin) }

    /// Those that have ended in some way: `exited(0)`, `signalled(9)`.
    func workers(_ what: String, after begin: Int = 0) -> [pid_t] {
        process.lines[begin...].compactMap { line in
            let words = line.split(separator: " ")
            return words.count == 3 && words[0] == "worker" && words[2] == what ? pid_t(words[1]) : nil
        }
    }

    /// The workers that have not ended, oldest first.
    var living: [pid_t] {
        let ended = Set(workers("exited(0)") + workers("signalled(9)"))
        return forked().filter { !ended.contains($0) }
    }

    /// Waits for a line, after a number of them, that begins so.
    func line(after begin: Int = 0, beginning: String, timeout: Duration) throws -> String {
        try process.line(after: begin, timeout: timeout) { $0.hasPrefix(beginning) }
    }

    func signal(_ number: Int32) { process.signal(number) }

    /// What it exits with, when all that it has forked is gone, too.
    func stop() throws -> Int32 {
        signal(SIGTERM)
        return try process.ending(timeout: .seconds(10))
    }

    /// Waits until it is gone, with all that it has forked.
    func ending(timeout: Duration) throws -> Int32 { try process.ending(timeout: timeout) }
}

import ForkGuardTesting
import Foundation
import Wire

/// A gunicorn with the application of Examples/foreign-host, loaded before its workers are forked, and what it says of these.
final class Gunicorn {
    private let process: LoggedProcess
    private var workers = 4
    private var killed: Set<pid_t> = []
    /// Where it listens.
    let address: ServerAddress

    struct Unexpected: Error, CustomStringConvertible { let description: String }

    /// Waits until the workers are there.
    init(library: String, redis: String, _ arguments: [String]) throws {
        process = try LoggedProcess(
            Hosts.program("gunicorn"),
            [
                "--preload", "--workers", "\(workers)", "--bind", "127.0.0.1:0", "--timeout", "10", "--graceful-timeout", "3",
            ] + arguments + ["application"],
            environment: ["HOSTED_REDIS_LIBRARY": library, "HOSTED_REDIS_SERVER": redis, "PYTHONDONTWRITEBYTECODE": "1"],
            directory: Hosts.programs, takesErrors: true)
        let line = try process.line(timeout: .seconds(20)) { $0.contains("Listening at: ") }
        let words = line.split(whereSeparator: { ": ".contains($0) })
        guard let port = words.dropLast().last.flatMap({ UInt16($0) }) else { throw Unexpected(description: line) }
        address = try ServerAddress(host: "127.0.0.1", port: port)
        try wait { self.booted.count == self.workers }
    }

    /// The master.
    var identifier: pid_t { process.identifier }

    var lines: [String] { process.lines }

    /// The workers that have begun, oldest first.
    var booted: [pid_t] { processes("Booting worker with pid: ") }

    /// Those that have not ended, as far as it says.
    var living: [pid_t] {
        let gone = killed.union(processes("Worker exiting (pid: "))
        return booted.filter { !gone.contains($0) }
    }

    /// Where the living workers are.
    var stacks: String { living.map { "worker \($0)\n\(ProcessStack.read($0))" }.joined(separator: "\n") }

    /// New workers for all, one after the other, and then the end of the old ones.
    func replaceAll() throws {
        let old = Set(living), before = booted.count
        process.signal(SIGHUP)
        try wait { self.booted.count == before + self.workers && old.isDisjoint(with: self.living) }
    }

    /// One worker more.
    func add() throws {
        let before = booted.count
        workers += 1
        process.signal(SIGTTIN)
        try wait { self.booted.count == before + 1 }
    }

    /// One worker less.
    func remove() throws {
        workers -= 1
        process.signal(SIGTTOU)
        try wait { self.living.count == self.workers }
    }

    /// Kills the oldest worker, which is replaced.
    func kill() throws {
        guard let victim = living.first else { throw Unexpected(description: "nobody is alive") }
        let before = booted.count
        killed.insert(victim)
        _ = Foundation.kill(victim, SIGKILL)
        try wait { self.booted.count == before + 1 }
    }

    /// What it exits with, when its workers are gone.
    func stop() throws -> Int32 {
        process.signal(SIGTERM)
        return try process.ending(timeout: .seconds(15))
    }

    private func wait(until condition: () -> Bool) throws {
        if HTTPSupport.wait(.seconds(10), until: condition) { return }
        throw Unexpected(description: "gunicorn does not do as it is told: \(lines.joined(separator: "\n"))\n\(stacks)")
    }

    private func processes(_ what: String) -> [pid_t] {
        lines.compactMap { line in
            line.range(of: what).flatMap { pid_t(line[$0.upperBound...].prefix { $0.isNumber }) }
        }
    }
}

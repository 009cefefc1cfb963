import ForkGuard
import Foundation
import Wire
import XCTest

/// A run of `preforking-server`, of Examples, and what it prints.
final class PreforkingServerProcess: Sendable {
    private let process: Process
    private let lines = ForkMutex<[String]>([], name: "lines of preforking-server")
    private let changed = ForkCondition(name: "more lines of preforking-server")
    /// Where it listens.
    let address: ServerAddress

    /// Waits until it listens. It ends itself after a minute.
    init(redis: (host: String, port: UInt16), environment: [String: String] = [:]) throws {
        process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("preforking-server")
        process.arguments = ["--redis", "\(redis.host):\(redis.port)", "--workers", "4", "--seconds", "60"]
        process.environment = ProcessInfo.processInfo.environment.filter { $0.key != "FORKGUARD_RUNTIME" }.merging(environment) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let (lines, changed) = (lines, changed)
        // The workers have the pipe's other end too: it is at its end when the last is gone.
        Thread.detachNewThread {
            var rest: [UInt8] = []
            while case let data = output.fileHandleForReading.availableData, !data.isEmpty {
                rest += data
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[..<end], as: UTF8.self)
                    rest.removeSubrange(...end)
                    lines.withLock { $0.append(line) }
                }
                changed.broadcast()
            }
            lines.withLock { $0.append("gone") }
            changed.broadcast()
        }
        let first = try changed.wait(lines, timeout: .seconds(10), until: { !$0.isEmpty }) { $0[0] }
        let words = first.split(whereSeparator: { " :,".contains($0) })
        guard words.count >= 4, words[0] == "listening", let port = UInt16(words[3]) else {
            throw Unexpected(description: "it printed '\(first)'")
        }
        address = try ServerAddress(host: "127.0.0.1", port: port)
    }

    deinit { if process.isRunning { process.terminate() } }

    struct Unexpected: Error, CustomStringConvertible { let description: String }

    /// How many lines there are by now.
    var printed: Int { lines.withLock { $0.count } }

    /// Those of the workers that it has forked, in that order, after a number of lines.
    func forked(after begin: Int = 0) -> [pid_t] {
        lines.withLock { $0[begin...].compactMap { Self.worker($0, "forked") } }
    }

    /// The workers that have not ended, oldest first.
    var living: [pid_t] {
        lines.withLock { lines in
            let forked = lines.compactMap { Self.worker($0, "forked") }
            let ended = Set(lines.compactMap { Self.worker($0, "exited(0)") ?? Self.worker($0, "signalled(9)") })
            return forked.filter { !ended.contains($0) }
        }
    }

    /// Waits for a line, after a number of them, that begins so.
    func line(after begin: Int = 0, beginning: String, timeout: Duration) throws -> String {
        try changed.wait(lines, timeout: timeout, until: { $0[begin...].contains { $0.hasPrefix(beginning) } }) {
            $0[begin...].first { $0.hasPrefix(beginning) }!
        }
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// What it exits with, when all that it has forked is gone, too.
    func stop() throws -> Int32 {
        signal(SIGTERM)
        _ = try line(beginning: "gone", timeout: .seconds(10))
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    private static func worker(_ line: String, _ what: String) -> pid_t? {
        let words = line.split(separator: " ")
        return words.count == 3 && words[0] == "worker" && words[2] == what ? pid_t(words[1]) : nil
    }
}

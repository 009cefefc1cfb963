import ForkGuard
import Foundation

/// A process that runs beside the test, and the lines that it and its children print.
final class LoggedProcess: Sendable {
    private let process: Process
    private let state = ForkMutex(State(), name: "lines of a process")
    private let changed = ForkCondition(name: "more lines of a process")

    private struct State {
        var lines: [String] = []
        var isGone = false
    }

    /// - Parameter takesErrors: whether what it writes to standard error is for us, too.
    init(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:], directory: URL? = nil, takesErrors: Bool = false
    ) throws {
        process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.filter { $0.key != "FORKGUARD_RUNTIME" }.merging(environment) { $1 }
        if let directory { process.currentDirectoryURL = directory }
        let output = Pipe()
        process.standardOutput = output
        if takesErrors { process.standardError = output }
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let (state, changed) = (state, changed)
        // Children have the pipe's other end too: it is at its end when the last is gone.
        Thread.detachNewThread {
            var rest: [UInt8] = []
            while case let data = output.fileHandleForReading.availableData, !data.isEmpty {
                rest += data
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[..<end], as: UTF8.self)
                    rest.removeSubrange(...end)
                    state.withLock { $0.lines.append(line) }
                }
                changed.broadcast()
            }
            state.withLock { $0.isGone = true }
            changed.broadcast()
        }
    }

    deinit { if process.isRunning { process.terminate() } }

    var identifier: pid_t { process.processIdentifier }

    var lines: [String] { state.withLock { $0.lines } }

    /// Waits for a line, after a number of them.
    func line(after begin: Int = 0, timeout: Duration, where isWanted: (String) -> Bool) throws -> String {
        try changed.wait(state, timeout: timeout, until: { $0.lines[begin...].contains(where: isWanted) || $0.isGone }) { state in
            guard let line = state.lines[begin...].first(where: isWanted) else {
                throw Gone(description: "it ended: \(state.lines[begin...].joined(separator: "\n"))")
            }
            return line
        }
    }

    struct Gone: Error, CustomStringConvertible { let description: String }

    func signal(_ number: Int32) { kill(identifier, number) }

    /// Waits until it is gone, with all its children. What it exits with, or the signal that has ended it, below 0.
    func ending(timeout: Duration) throws -> Int32 {
        try changed.wait(state, timeout: timeout, until: { $0.isGone }) { _ in }
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}

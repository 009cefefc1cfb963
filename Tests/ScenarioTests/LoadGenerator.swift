import Foundation
import XCTest

/// A run of wrk, beside what else happens.
final class LoadGenerator {
    private let process = Process()
    private let output = Pipe()

    /// What it prints in the end.
    struct Result {
        let text: String
        let requests: Int
        /// Connections that were lost; requests that were not answered in time.
        var read = 0, timeout = 0
        /// Whether it saw anything else that is not the answer 200.
        var others: Bool

        init(_ text: String) throws {
            self.text = text
            let words = text.split(whereSeparator: { $0.isWhitespace || $0 == "," })
            requests = try XCTUnwrap(words.firstIndex(of: "requests").flatMap { Int(words[$0 - 1]) }, text)
            others = text.contains("Non-2xx")
            // It prints this only where there were some: `Socket errors: connect 0, read 1, write 0, timeout 0`
            guard let errors = words.firstIndex(of: "errors:").map({ words[$0...] }) else { return }
            func count(_ what: Substring) throws -> Int {
                try XCTUnwrap(errors.firstIndex(of: what).flatMap { Int(errors[$0 + 1]) }, text)
            }
            (read, timeout) = try (count("read"), count("timeout"))
            if try count("connect") + count("write") > 0 { others = true }
        }
    }

    /// It asks for `url` until it is told to end, at most for so many seconds.
    init(_ url: String, connections: Int, seconds: Int) throws {
        guard let wrk = ["/usr/bin/wrk", "/usr/local/bin/wrk"].first(where: { FileManager.default.isExecutableFile(atPath: $0) }) else {
            throw XCTSkip("there is no wrk: run Scripts/test")
        }
        process.executableURL = URL(fileURLWithPath: wrk)
        process.arguments = ["-t2", "-c\(connections)", "-d\(seconds)s", "--timeout", "2s", url]
        process.standardOutput = output
        try process.run()
    }

    deinit { if process.isRunning { process.terminate() } }

    /// Tells it to end.
    func stop() throws -> Result {
        process.interrupt()
        return try wait()
    }

    /// Waits until it ends by itself.
    func wait() throws -> Result {
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return try Result(text)
    }
}

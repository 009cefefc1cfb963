import Foundation
import XCTest

/// A run of `forkguard-probe`: a process of its own for one scenario.
struct Probe {
    let status: Int32
    let endedBySignal: Bool
    let output: String
    let error: String

    /// Runs a scenario to its end; the probe ends itself after a minute.
    ///
    /// - Parameter denying: system calls that the kernel refuses from before the library starts, "madvise=22" for EINVAL. An errno of 0 fakes success.
    static func run(_ scenario: String, denying: [String] = [], environment: [String: String] = [:]) throws -> Probe {
        let process = Process()
        process.executableURL = productsFolder.appendingPathComponent("forkguard-probe")
        process.arguments = denying.flatMap { ["--deny", $0] } + [scenario]
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        // Files, not pipes: nobody reads before the end, and a full pipe would stop the scenario.
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-probe-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ["output", "error"].map { folder.appendingPathComponent($0) }
        for file in files { try Data().write(to: file) }
        process.standardOutput = try FileHandle(forWritingTo: files[0])
        process.standardError = try FileHandle(forWritingTo: files[1])
        try process.run()
        process.waitUntilExit()
        let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
        return Probe(
            status: process.terminationStatus, endedBySignal: process.terminationReason == .uncaughtSignal,
            output: texts[0], error: texts[1]
        )
    }

    /// Fails the test unless the scenario ended well; shows what it said.
    func expectSuccess(printing line: String, file: StaticString = #filePath, testLine: UInt = #line) {
        XCTAssert(
            status == 0 && !endedBySignal, "ended with \(endedBySignal ? "signal" : "status") \(status): \(error)",
            file: file, line: testLine
        )
        XCTAssert(output.contains(line), "printed '\(output)' and not '\(line)'; \(error)", file: file, line: testLine)
        if output.contains(line) { print(line) }
    }

    /// Fails the test unless the scenario trapped with a message that has all of `parts`.
    func expectTrap(saying parts: String..., file: StaticString = #filePath, line: UInt = #line) {
        XCTAssert(endedBySignal && status == SIGILL, "ended with \(status): \(output) \(error)", file: file, line: line)
        for part in parts { XCTAssert(error.contains(part), "'\(error)' does not say '\(part)'", file: file, line: line) }
    }

    /// Executables stand beside the test bundle.
    private static var productsFolder: URL {
        URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    }
}

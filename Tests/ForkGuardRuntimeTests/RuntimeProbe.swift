import Foundation
import XCTest

/// A run of `forkguard-runtime-probe`, or of another process that `ForkGuardRuntime` is linked into.
struct RuntimeProbe {
    let status: Int32
    let output: String
    let error: String

    /// Runs a scenario to its end; the probe ends itself after 100 seconds, and each of its children after a few.
    static func run(
        _ scenario: String..., of executable: String = "forkguard-runtime-probe", environment: [String: String] = [:]
    ) throws -> RuntimeProbe {
        try run(scenario, of: executable, environment: environment)
    }

    static func run(
        _ arguments: [String], of executable: String, environment: [String: String]
    ) throws -> RuntimeProbe {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent(executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-runtime-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ["output", "error"].map { folder.appendingPathComponent($0) }
        for file in files { try Data().write(to: file) }
        process.standardOutput = try FileHandle(forWritingTo: files[0])
        process.standardError = try FileHandle(forWritingTo: files[1])
        try process.run()
        process.waitUntilExit()
        let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
        let signalled = process.terminationReason == .uncaughtSignal
        return RuntimeProbe(status: signalled ? -process.terminationStatus : process.terminationStatus, output: texts[0], error: texts[1])
    }

    /// The numbers of a line such as "mutexes: 300 ok, 0 hung, 0 wrong, 299 forks beside a holder".
    var counts: [Int] { output.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) } }
}

import Foundation
import XCTest

/// A run of a program with `libforkguard-preload.so`, or without it: its control.
struct PreloadRun {
    let status: Int32
    let output: String
    let error: String

    /// The library that `Scripts/test` has built, from FORKGUARD_TEST_PRELOAD; beside it, in `probe`, what CMake builds of `Tests/forkguard-preload-probe`.
    static func library() throws -> URL {
        guard let path = ProcessInfo.processInfo.environment["FORKGUARD_TEST_PRELOAD"] else {
            throw XCTSkip("FORKGUARD_TEST_PRELOAD is not set: run Scripts/test")
        }
        guard FileManager.default.isReadableFile(atPath: path) else {
            throw Missing(description: "FORKGUARD_TEST_PRELOAD: there is no file '\(path)'")
        }
        return URL(fileURLWithPath: path)
    }

    /// One of the programs, or the library, that are built for the tests.
    static func built(_ name: String) throws -> URL {
        try library().deletingLastPathComponent().appendingPathComponent("probe").appendingPathComponent(name)
    }

    /// Runs a scenario of the probe to its end; it ends itself after 100 seconds, and each of its children after two.
    static func probe(
        _ scenario: String, form: String = "dynamic", guarded: Bool = true, preload: [URL]? = nil, environment: [String: String] = [:]
    ) throws -> PreloadRun {
        try run(
            built("forkguard-preload-probe-\(form)"), [scenario], preload: preload ?? (guarded ? [library()] : []),
            environment: ["FORKGUARD_DEADLINE_MS": "1000"].merging(environment) { $1 })
    }

    /// Runs a program to its end with these libraries preloaded, and no descriptor of this process but a standard input without anything to read.
    static func run(
        _ program: URL, _ arguments: [String], preload: [URL], environment: [String: String] = [:]
    ) throws -> PreloadRun {
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        var all = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        if !preload.isEmpty { all["LD_PRELOAD"] = preload.map(\.path).joined(separator: ":") }
        process.environment = all
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-preload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ["output", "error"].map { folder.appendingPathComponent($0) }
        for file in files { try Data().write(to: file) }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: files[0])
        process.standardError = try FileHandle(forWritingTo: files[1])
        try process.run()
        process.waitUntilExit()
        let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
        let signalled = process.terminationReason == .uncaughtSignal
        return PreloadRun(status: signalled ? -process.terminationStatus : process.terminationStatus, output: texts[0], error: texts[1])
    }

    /// The numbers of the last line, such as "mutexes: 300 ok, 0 hung, 0 wrong, 299 forks beside a holder".
    var counts: [Int] {
        let line = output.split(separator: "\n").last ?? ""
        return line.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
    }

    struct Missing: Error, CustomStringConvertible { let description: String }
}

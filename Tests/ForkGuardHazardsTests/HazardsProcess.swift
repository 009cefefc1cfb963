import Foundation
import XCTest

/// The built executable, run with arguments, and what came of it.
struct HazardsProcess {
    let status: Int32
    let output: String
    let errors: String

    init(_ arguments: [String], line: UInt = #line) throws {
        let process = Process()
        process.executableURL = try Self.executable()
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        // A file, as stacks of hung children may be longer than what fits into a pipe.
        let errors = FileManager.default.temporaryDirectory.appendingPathComponent("hazards-\(UUID().uuidString)")
        guard FileManager.default.createFile(atPath: errors.path, contents: nil) else { throw Missing("cannot make \(errors.path)") }
        defer { try? FileManager.default.removeItem(at: errors) }
        process.standardError = try FileHandle(forWritingTo: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        XCTAssertEqual(process.terminationReason, .exit, "the program was ended by a signal", line: line)
        self.errors = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
        status = process.terminationStatus
    }

    /// It is built into the directory that the test bundle is in.
    private static func executable() throws -> URL {
        #if canImport(Darwin)
            let bundle = Bundle(for: ForkGuardHazardsTests.self).bundleURL
        #else
            let bundle = Bundle.main.executableURL ?? Bundle.main.bundleURL
        #endif
        let executable = bundle.deletingLastPathComponent().appendingPathComponent("forkguard-hazards")
        guard FileManager.default.isExecutableFile(atPath: executable.path) else {
            throw Missing("there is no \(executable.path): swift build --product forkguard-hazards")
        }
        return executable
    }

    private struct Missing: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }
}

import Foundation
import XCTest

/// The built executable, run with arguments, and what came of it.
struct DemoProcess {
    let status: Int32
    let output: String
    let errors: String

    init(_ arguments: String..., line: UInt = #line) throws { try self.init(arguments, line: line) }

    init(_ arguments: [String], line: UInt = #line) throws {
        let process = try Self.make(arguments)
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        // What it writes to standard error fits into a pipe.
        self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        XCTAssertEqual(process.terminationReason, .exit, "the demo was ended by a signal", line: line)
        status = process.terminationStatus
    }

    static func make(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = try executable()
        process.arguments = arguments
        return process
    }

    /// It is built into the directory that the test bundle is in.
    private static func executable() throws -> URL {
        #if canImport(Darwin)
            let bundle = Bundle(for: ForkGuardDemoTests.self).bundleURL
        #else
            let bundle = Bundle.main.executableURL ?? Bundle.main.bundleURL
        #endif
        let executable = bundle.deletingLastPathComponent().appendingPathComponent("forkguard-demo")
        guard FileManager.default.isExecutableFile(atPath: executable.path) else {
            throw Missing(description: "there is no \(executable.path): swift build --product forkguard-demo")
        }
        return executable
    }

    private struct Missing: Error, CustomStringConvertible {
        let description: String
    }
}

internal import Foundation
internal import XCTest

/// The built `forkguard`, run with arguments, and what came of it.
struct ToolProcess {
    let pid: Int32
    let status: Int32
    let output: String
    let errors: String

    /// `signal` is sent to it once it has printed something. As `user`, with no rights of root's, where there is one. The
    /// executable is the copy in `directory`, where there is one.
    init(_ arguments: [String], _ environment: [String: String] = [:], signal: Int32? = nil, user: UInt32? = nil, in directory: URL? = nil)
        throws
    {
        let process = Process()
        let executable = try directory.map { $0.appendingPathComponent("forkguard") } ?? Self.executable()
        process.executableURL = user == nil ? executable : URL(fileURLWithPath: "/usr/bin/setpriv")
        process.arguments =
            (user.map { ["--reuid", String($0), "--regid", String($0), "--clear-groups", executable.path] } ?? []) + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let output = Pipe()
        process.standardOutput = output
        // A file: nobody reads it meanwhile.
        let errors = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-\(UUID().uuidString)")
        guard FileManager.default.createFile(atPath: errors.path, contents: nil) else { throw Missing("cannot make \(errors.path)") }
        defer { try? FileManager.default.removeItem(at: errors) }
        process.standardError = try FileHandle(forWritingTo: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        pid = process.processIdentifier
        // Nothing here takes so long; a test is not to hang with what it tests.
        let watchdog = DispatchWorkItem { [pid] in kill(pid, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: .now() + 60, execute: watchdog)
        var read = Data()
        if let signal {
            read = output.fileHandleForReading.availableData
            kill(pid, signal)
        }
        read += output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        watchdog.cancel()
        self.output = String(decoding: read, as: UTF8.self)
        self.errors = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
        status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    }

    /// It is built into the directory that the test bundle is in.
    static func executable() throws -> URL {
        let bundle = Bundle.main.executableURL ?? Bundle.main.bundleURL
        let executable = bundle.deletingLastPathComponent().appendingPathComponent("forkguard")
        guard FileManager.default.isExecutableFile(atPath: executable.path) else {
            throw Missing("there is no \(executable.path): swift build --product forkguard")
        }
        return executable
    }

    struct Missing: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }
}

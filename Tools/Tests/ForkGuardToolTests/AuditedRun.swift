internal import Foundation
internal import XCTest

/// `forkguard audit --json`, and its report.
struct AuditedRun {
    let tool: ToolProcess
    let report: Report

    init(_ command: [String], options: [String] = [], environment: [String: String] = [:]) throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("audit-\(UUID().uuidString).json")
        defer { try? FileManager.default.removeItem(at: file) }
        tool = try ToolProcess(["audit", "--json", "--output", file.path] + options + ["--"] + command, environment)
        let data = try Data(contentsOf: file)
        guard !data.isEmpty else { throw ToolProcess.Missing("no report: \(tool.errors)") }
        report = try JSONDecoder().decode(Report.self, from: data)
    }

    var names: Set<String> { Set(report.findings.map(\.name)) }

    func finding(_ name: String) throws -> Report.Finding {
        try XCTUnwrap(report.findings.first { $0.name == name }, "\(name) is not among \(names)")
    }

    /// What the tests read of the document that the command describes.
    struct Report: Decodable {
        let version: Int
        let command: [String]
        let process: Int32
        let exitStatus: Int32?
        let signal: Int32?
        let timedOut: Bool
        let processes: Int
        let forkCount: Int
        let findings: [Finding]
        let forks: [Fork]
        let notes: [String]

        struct Finding: Decodable {
            let name: String
            let title: String
            let explanation: String
            let fix: String
            let count: Int
            let forks: [String]
            let details: [String]
            let places: [Place]
        }

        struct Place: Decodable {
            let side: String
            let what: String
            let stack: [Frame]
        }

        struct Frame: Decodable {
            let object: String?
            let function: String?
            let file: String?
            let line: Int?
        }

        struct Fork: Decodable {
            let id: String
            let count: Int
            let via: String
            let threads: [String]
            let stack: [Frame]
            let children: [String: Int]
            let vanished: [Thread]
            let held: [Lock]
            let descriptors: [Descriptor]
        }

        struct Thread: Decodable {
            let name: String
            let count: Int
            let call: String?
            let doing: String
            let stack: [Frame]
        }

        struct Lock: Decodable {
            let kind: String
            let address: String
            let symbol: String?
            let thread: String
            let stack: [Frame]
        }

        struct Descriptor: Decodable {
            let number: Int32
            let kind: String
            let usedByParent: [String]
            let usedByChild: [String]
        }
    }
}

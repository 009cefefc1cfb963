internal import ArgumentParser
internal import Foundation

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Says what this kernel, libc and toolchain give, and what follows from what they do not.",
        discussion: "Exit status: 0, also when something is missing.")

    @Flag(help: "As JSON.")
    var json = false

    func run() throws {
        let doctor = Doctor.examine(Environment())
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            Console.output(String(decoding: try encoder.encode(doctor), as: UTF8.self) + "\n")
            return
        }
        let width = doctor.lines.map(\.name.count).max() ?? 0
        for line in doctor.lines {
            let name = line.name.padding(toLength: width, withPad: " ", startingAt: 0)
            Console.output("\(line.isThere ? "ok      " : "missing ") \(name)  \(line.found): \(line.consequence)\n")
        }
    }
}

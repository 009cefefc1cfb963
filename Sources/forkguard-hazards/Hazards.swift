import ForkGuard
import ForkGuardRuntime
import Foundation

/// The program from its command line to its exit status.
enum Hazards {
    static func main(_ words: [String]) -> Int32 {
        // Whoever starts it may ignore the end of children, and then none could be waited for.
        signal(SIGCHLD, SIG_DFL)
        if let subject = SubjectArguments(words: words) { Subject(subject).main() }
        do {
            return try run(try Arguments(words))
        } catch let wrong as Arguments.Wrong {
            Console.error("forkguard-hazards: \(wrong.message); see --help\n")
            return EX_USAGE
        } catch {
            Console.error("forkguard-hazards: \((error as? Descriptors.Failure)?.description ?? "\(error)")\n")
            return EX_OSERR
        }
    }

    private static func run(_ arguments: Arguments) throws -> Int32 {
        if arguments.wantsHelp {
            Console.output(Arguments.help)
            return 0
        }
        if arguments.wantsList {
            let width = arguments.rows.map(\.name.count).max() ?? 0
            for row in arguments.rows {
                Console.output("\(row.name.padded(to: width))  \(row.group.rawValue.padded(to: 6))  \(row.about)\n")
            }
            return 0
        }
        if arguments.wantsSupport {
            for cure in ForkGuard.runtimeSupport { Console.output("\(cure)\n") }
            let milliseconds = Double(forkguard_runtime_start_nanoseconds()) / 1e6
            Console.output("start: \(milliseconds.formatted(.number.precision(.fractionLength(2)))) ms\n")
            return 0
        }
        let home = try temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: home) }
        let table = Table(arguments.rows)
        if !arguments.writesJSON { Console.output(table.header) }
        var measurements: [Measurement] = []
        for row in arguments.rows {
            for load in arguments.loads {
                var measurement = Measurement(row, load)
                for column in arguments.columns {
                    try measurement.run(column, forks: arguments.forks ?? load.defaultForks, home: home) {
                        Console.progress(String(table.line($0).dropLast()))
                    }
                }
                Console.progress("")
                if !arguments.writesJSON { Console.output(table.line(measurement)) }
                measurements.append(measurement)
            }
        }
        let notes = measurements.flatMap(\.notes).map { "\n\($0)\n" }.joined()
        if arguments.writesJSON {
            Console.output("[" + measurements.map(\.json).joined(separator: ",") + "]\n")
            Console.error(notes)
        } else {
            Console.output(notes)
        }
        return measurements.allSatisfy(\.isGood) ? 0 : 1
    }

    /// The subjects' home.
    private static func temporaryDirectory() throws(Descriptors.Failure) -> String {
        var template = Array("\(NSTemporaryDirectory())/forkguard-hazards.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Descriptors.Failure(call: "mkdtemp", error: errno) }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

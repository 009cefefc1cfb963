/// The command line.
struct Arguments {
    var forks = 2000
    var control: Control?
    var wantsHelp = false

    /// What goes wrong on purpose, and must be found.
    enum Control: String, CaseIterable {
        /// Each lap leaves a descriptor open.
        case descriptors
        /// Each lap leaves memory allocated.
        case memory
        /// Each lap leaves a thread.
        case threads
        /// Forks go around libc, so that nobody waits for who is inside.
        case unguarded
    }

    struct Wrong: Error {
        let message: String
    }

    init(_ words: [String]) throws(Wrong) {
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--help", "-h": wantsHelp = true
            case "--forks":
                let text = try Self.value(of: word, &rest)
                guard let number = Int(text), (100...10_000_000).contains(number) else {
                    throw Wrong(message: "--forks: '\(text)' is not a number from 100 to 10000000")
                }
                forks = number
            case "--control":
                let text = try Self.value(of: word, &rest)
                guard let known = Control(rawValue: text) else {
                    throw Wrong(message: "--control: '\(text)' is not one of \(Control.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                control = known
            default: throw Wrong(message: "'\(word)' is not an option")
            }
        }
    }

    private static func value(of option: String, _ rest: inout ArraySlice<String>) throws(Wrong) -> String {
        guard let value = rest.popFirst() else { throw Wrong(message: "\(option) needs a value") }
        return value
    }

    static let help = """
        Forks a process of 16 threads, 10,000 locks, pools, workers and hooks again and again, beside faults, and accounts for every child.

        Usage: Scripts/soak [--forks N] [--control NAME]

          --forks N       how many forks, from 100 to 10000000; 2000 unless told
          --control NAME  goes wrong on purpose, and must fail: \(Control.allCases.map(\.rawValue).joined(separator: ", "))

        One line of JSON on standard output; what was wrong on standard error. Exit status 0 when every child is accounted for and memory,
        descriptors and threads are flat, else 1; 64 for arguments that it does not know.
        """
}

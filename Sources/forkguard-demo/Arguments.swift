/// The command line.
struct Arguments {
    var redis: (host: String, port: UInt16)?
    var writesJSON = false
    var children = 200
    var threads = 8
    var seed: UInt64?
    var wantsHelp = false

    /// What is wrong with which argument.
    struct Wrong: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    static let mostChildren = 100_000
    static let mostThreads = 256

    init(_ words: [String]) throws(Wrong) {
        var rest = words[...]
        while let word = rest.popFirst() {
            let (option, attached) = Self.split(word)
            switch option {
            case "--help", "-h": wantsHelp = true
            case "--json": writesJSON = true
            case "--redis": redis = try Self.address(try Self.value(of: option, attached, &rest))
            case "--children": children = try Self.number(of: option, attached, &rest, 1...Self.mostChildren)
            case "--threads": threads = try Self.number(of: option, attached, &rest, 1...Self.mostThreads)
            case "--seed":
                let text = try Self.value(of: option, attached, &rest)
                guard let number = UInt64(text) else { throw Wrong("--seed: '\(text)' is not a number from 0 to \(UInt64.max)") }
                seed = number
            default: throw Wrong("'\(word)' is not an option")
            }
            if attached != nil, ["--help", "-h", "--json"].contains(option) { throw Wrong("\(option) takes no value") }
        }
    }

    /// `--option=value` is `--option value`.
    private static func split(_ word: String) -> (option: String, value: String?) {
        guard word.hasPrefix("--"), let sign = word.firstIndex(of: "=") else { return (word, nil) }
        return (String(word[..<sign]), String(word[word.index(after: sign)...]))
    }

    private static func value(of option: String, _ attached: String?, _ rest: inout ArraySlice<String>) throws(Wrong) -> String {
        guard let value = attached ?? rest.popFirst() else { throw Wrong("\(option) needs a value") }
        return value
    }

    private static func number(
        of option: String, _ attached: String?, _ rest: inout ArraySlice<String>, _ range: ClosedRange<Int>
    ) throws(Wrong) -> Int {
        let text = try value(of: option, attached, &rest)
        guard let number = Int(text), range.contains(number) else {
            throw Wrong("\(option): '\(text)' is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private static func address(_ text: String) throws(Wrong) -> (host: String, port: UInt16) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            throw Wrong("--redis: '\(text)' is not HOST:PORT with a port from 1 to 65535")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw Wrong("--redis: '\(text)': write an IPv6 address in brackets, as [::1]:6379")
        }
        guard !host.isEmpty else { throw Wrong("--redis: '\(text)' has no host") }
        return (host, port)
    }

    static let help = """
        Forks children out of a process whose threads are busy with a pooled Redis client, with ForkGuard and without, and counts what goes wrong.

        Usage: forkguard-demo [options]

          --redis HOST:PORT  Use this server. Default: a small one of its own, started for the run. Keys are named forkguard-demo:… and expire.
          --children N       Children to fork per column, 1 to 100000. Default: 200.
          --threads N        Threads that ask and fork, 1 to 256. Default: 8.
          --seed N           Repeats the choice of pauses and fork methods; what the threads do meanwhile stays up to the machine. Default: random.
          --json             One line of JSON instead of the table.
          --help             This.

        Two processes run one after the other, with the same client source, the same number of threads, requests and children.
          With ForkGuard: the pool is a ForkPool, and each connection's descriptor a ForkDescriptor. Half of the children are forked by ForkGuard.fork,
            half by a raw fork().
          Without: the pool has a pthread mutex, a connection is a number. All children are forked by a raw fork(), as there is nothing else.
        Each child sends 20 requests through the client that it inherited. One that gets no answer gives up; one that runs for 5 seconds is hung and is
        killed. Every answer is compared with the one that only this process's question has.

        --json prints {"guarded":{…},"unguarded":{…}}, each with: children (forked), ok (finished, every answer right), hung, crashed, crosstalk (answers to
        another process's question), parentRequests, parentWrong (of those: answered wrong or not at all), forkMedianMicroseconds, forkP99Microseconds.

        Exit status: 0 when with ForkGuard nothing at all went wrong; 1 when something did; 64 for a bad argument; 69 when the server is not there;
        70 or 71 when the demo itself or the system failed.

        """
}

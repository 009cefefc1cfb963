import Wire

/// The command line.
struct Options {
    static let usage = """
        usage: preforking-server --redis HOST:PORT [--workers N] [--port N] [--seconds N]
          --redis HOST:PORT  a Redis server: keys are named preforking-server:…
          --workers N        how many processes answer: 1 to 256, 4 if left out
          --port N           of 127.0.0.1; any free one if left out, or 0
          --seconds N        how long to run: 1 to 86400; until SIGTERM or SIGINT if left out
        It answers /pid, /echo?id=X with X, by way of Redis, and /incr?key=K with the worker's process id and the new value of K.
        SIGUSR1 has it print the state of the parent and the workers.
        Exit status: 0 when the parent's own answers were right, 1 when not, 64 for bad arguments.
        """

    struct Invalid: Error, CustomStringConvertible { let description: String }

    private(set) var redis: ServerAddress
    private(set) var workers = 4
    private(set) var port: UInt16 = 0
    private(set) var seconds: Int?

    /// `nil`: help was asked for.
    init?(_ arguments: some Sequence<String>) throws {
        var rest = arguments.makeIterator(), redis: ServerAddress?
        while let name = rest.next() {
            if name == "--help" { return nil }
            guard ["--redis", "--workers", "--port", "--seconds"].contains(name) else {
                throw Invalid(description: "unknown argument '\(name)'")
            }
            guard let text = rest.next() else { throw Invalid(description: "\(name) needs a value") }
            func number<Number: FixedWidthInteger>(_ range: ClosedRange<Number>) throws -> Number {
                if let number = Number(text), range.contains(number) { return number }
                throw Invalid(description: "\(name): '\(text)' is not a number from \(range.lowerBound) to \(range.upperBound)")
            }
            switch name {
            case "--redis":
                guard let colon = text.lastIndex(of: ":"), colon != text.startIndex,
                    let port = UInt16(text[text.index(after: colon)...]), port != 0
                else {
                    throw Invalid(description: "\(name): '\(text)' is not HOST:PORT with a port from 1 to 65535")
                }
                redis = try ServerAddress(host: String(text[..<colon]), port: port)
            case "--workers": workers = try number(1...256)
            case "--port": port = try number(0...65535)
            default: seconds = try number(1...86400)
            }
        }
        guard let redis else { throw Invalid(description: "--redis is missing") }
        self.redis = redis
    }
}

/// The Redis protocol, version 2, as far as the client and the embedded server need it.
enum RESP {
    /// What a server answers.
    enum Reply: Sendable, Equatable {
        case simple([UInt8])
        case error([UInt8])
        case integer(Int64)
        case bulk([UInt8]?)
    }

    /// What came over the connection is not the protocol.
    struct Malformed: Error, Equatable {
        let what: String
        init(_ what: String) { self.what = what }
    }

    static let longestBulk = 1 << 20
    static let longestLine = 1 << 16
    static let mostArguments = 1 << 10

    /// A command, as a client sends it: an array of bulk strings.
    static func command(_ arguments: [[UInt8]]) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(ascii: "*")]
        bytes.append(decimal: arguments.count)
        bytes.appendLineEnd()
        for argument in arguments { bytes.append(bulk: argument) }
        return bytes
    }

    /// The reply that begins at `start` and where it ends, or `nil` if it is not all there yet.
    static func reply(in bytes: [UInt8], from start: Int) throws(Malformed) -> (reply: Reply, end: Int)? {
        guard start < bytes.count else { return nil }
        let kind = bytes[start]
        guard let line = try line(in: bytes, from: start + 1) else { return nil }
        switch kind {
        case UInt8(ascii: "+"): return (.simple(Array(line.text)), line.end)
        case UInt8(ascii: "-"): return (.error(Array(line.text)), line.end)
        case UInt8(ascii: ":"): return (.integer(try number(line.text)), line.end)
        case UInt8(ascii: "$"):
            let length = try number(line.text)
            if length == -1 { return (.bulk(nil), line.end) }
            guard let bulk = try bulk(in: bytes, from: line.end, length: length) else { return nil }
            return (.bulk(Array(bulk.text)), bulk.end)
        default: throw Malformed("expected '+', '-', ':' or '$'")
        }
    }

    /// The command that begins at `start` and where it ends, or `nil` if it is not all there yet. Also one typed in a terminal: words on a line.
    static func command(in bytes: [UInt8], from start: Int) throws(Malformed) -> (arguments: [[UInt8]], end: Int)? {
        guard start < bytes.count else { return nil }
        guard bytes[start] == UInt8(ascii: "*") else {
            guard let line = try line(in: bytes, from: start) else { return nil }
            return (line.text.split(separator: UInt8(ascii: " ")).map { Array($0) }, line.end)
        }
        guard let first = try line(in: bytes, from: start + 1) else { return nil }
        let count = try number(first.text)
        guard count <= mostArguments else { throw Malformed("invalid multibulk length") }
        var arguments: [[UInt8]] = []
        var end = first.end
        while arguments.count < count {
            guard end < bytes.count else { return nil }
            guard bytes[end] == UInt8(ascii: "$") else { throw Malformed("expected '$'") }
            guard let line = try line(in: bytes, from: end + 1) else { return nil }
            guard let bulk = try bulk(in: bytes, from: line.end, length: try number(line.text)) else { return nil }
            arguments.append(Array(bulk.text))
            end = bulk.end
        }
        return (arguments, end)
    }

    // ---- the parts ----

    private static func line(in bytes: [UInt8], from start: Int) throws(Malformed) -> (text: ArraySlice<UInt8>, end: Int)? {
        var index = start
        while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { index += 1 }
        guard index < bytes.count else {
            if bytes.count - start > longestLine { throw Malformed("too big inline request") }
            return nil
        }
        let hasReturn = index > start && bytes[index - 1] == UInt8(ascii: "\r")
        return (bytes[start..<(hasReturn ? index - 1 : index)], index + 1)
    }

    private static func bulk(
        in bytes: [UInt8], from start: Int, length: Int64
    ) throws(Malformed) -> (text: ArraySlice<UInt8>, end: Int)? {
        guard length >= 0, length <= longestBulk else { throw Malformed("invalid bulk length") }
        let end = start + Int(length)
        guard end + 2 <= bytes.count else { return nil }
        guard bytes[end] == UInt8(ascii: "\r"), bytes[end + 1] == UInt8(ascii: "\n") else {
            throw Malformed("a bulk string without its end")
        }
        return (bytes[start..<end], end + 2)
    }

    private static func number(_ text: ArraySlice<UInt8>) throws(Malformed) -> Int64 {
        guard let number = Int64(decimal: text) else { throw Malformed("expected a number") }
        return number
    }
}

extension [UInt8] {
    mutating func append(decimal number: Int) {
        if number < 0 { append(UInt8(ascii: "-")) }
        var rest = number.magnitude
        let start = count
        repeat {
            append(UInt8(ascii: "0") + UInt8(rest % 10))
            rest /= 10
        } while rest != 0
        self[start...].reverse()
    }

    mutating func append(text: String) { append(contentsOf: text.utf8) }

    mutating func appendLineEnd() {
        append(UInt8(ascii: "\r"))
        append(UInt8(ascii: "\n"))
    }

    mutating func append(bulk text: [UInt8]) {
        append(UInt8(ascii: "$"))
        append(decimal: text.count)
        appendLineEnd()
        append(contentsOf: text)
        appendLineEnd()
    }

    mutating func append(_ reply: RESP.Reply) {
        switch reply {
        case .simple(let text):
            append(UInt8(ascii: "+"))
            append(contentsOf: text)
        case .error(let text):
            append(UInt8(ascii: "-"))
            append(contentsOf: text)
        case .integer(let number):
            append(UInt8(ascii: ":"))
            append(decimal: Int(number))
        case .bulk(nil): append(text: "$-1")
        case .bulk(let text?):
            append(bulk: text)
            return
        }
        appendLineEnd()
    }
}

extension Int64 {
    /// A decimal number with nothing before or after it.
    init?(decimal text: ArraySlice<UInt8>) {
        var digits = text
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var number: Int64 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            let (tens, overflows) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflowsToo) = tens.subtractingReportingOverflow(Int64(digit - UInt8(ascii: "0")))
            guard !overflows, !overflowsToo else { return nil }
            number = sum
        }
        guard isNegative || number != .min else { return nil }
        self = isNegative ? number : -number
    }
}

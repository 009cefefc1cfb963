internal import Foundation

extension AuditReport.Frame {
    /// "worker (main.c:12)", "fork (libc.so.6)".
    var inWords: String {
        let object = object?.split(separator: "/").last.map(String.init)
        let name = function.map(Self.brief) ?? offset.map { "+0x\(String($0, radix: 16))" } ?? address ?? "?"
        if let file, let line { return "\(name) (\(file.split(separator: "/").last ?? ""):\(line))" }
        return object.map { "\(name) (\($0))" } ?? name
    }

    /// Swift's and C++'s names tell all types; a line that nobody reads to its end tells less.
    private static func brief(_ function: String) -> String {
        var name = function
        // A private name comes with a number for its file.
        while let start = name.range(of: "("), let inside = name.range(of: " in _", range: start.upperBound..<name.endIndex),
            let end = name.range(of: ")", range: inside.upperBound..<name.endIndex)
        {
            let open = name[..<inside.lowerBound].lastIndex(of: "(") ?? start.lowerBound
            name = "\(name[..<open])\(name[name.index(after: open)..<inside.lowerBound])\(name[end.upperBound...])"
        }
        for noise in ["@Sendable ", "Swift.", "(extension in Foundation):"] { name = name.replacingOccurrences(of: noise, with: "") }
        return name.count > 90 ? name.prefix(88) + ".." : name
    }
}

internal import Glibc

/// The environment that CMD gets.
struct Environment {
    private(set) var variables: [String: String] = [:]

    /// This process's own.
    init() {
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") { variables[String(text[..<equals])] = String(text[text.index(after: equals)...]) }
            next += 1
        }
    }

    subscript(name: String) -> String? {
        get { variables[name] }
        set { variables[name] = newValue }
    }

    /// Adds a library to those that ld.so loads first, in front of what is there. Once: what a guarded program starts is guarded already.
    mutating func preload(_ library: String) throws {
        // ld.so takes both for the end of a name, and knows no way to say otherwise.
        guard !library.contains(where: { $0 == " " || $0 == ":" }) else {
            throw Failure(
                "\(library): LD_PRELOAD cannot name a path with a space or a colon in it; put the library elsewhere, and name "
                    + "its directory in FORKGUARD_LIBRARY_PATH")
        }
        let present = (variables["LD_PRELOAD"] ?? "").split(whereSeparator: { $0 == " " || $0 == ":" }).map(String.init)
        let name = library.split(separator: "/").last
        if present.contains(where: { $0.split(separator: "/").last == name }) { return }
        variables["LD_PRELOAD"] = ([library] + present).joined(separator: ":")
    }

    /// As `execve` wants it.
    var entries: [String] { variables.map { "\($0)=\($1)" }.sorted() }
}

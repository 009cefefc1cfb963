extension AuditEvent.Descriptor {
    /// "TCP 127.0.0.1:40000 to 127.0.0.1:6379", "file /tmp/x".
    var inWords: String {
        var words = [kind]
        if kind == "socket" {
            words = ["\(type ?? "") socket"]
            if let local, !local.isEmpty { words.append(local) }
            if let peer, !peer.isEmpty { words.append("to \(peer)") }
            if listening == true { words.append("(listening)") }
        }
        if let path, path.hasPrefix("/") { words.append(path) }
        return words.joined(separator: " ")
    }

    /// A connection over a network, of which each process has its own.
    var isInternetStream: Bool {
        kind == "socket" && type == "stream" && listening != true && peer?.contains(":") == true && peer?.contains("/") != true
    }

    /// What it is called when both processes use it so; nil where that is as it should be.
    func findingWhenShared(_ uses: AuditedFork.Uses) -> String? {
        switch kind {
        case "socket": return type != "dgram" && listening != true ? "shared-connection" : nil
        case "epoll": return "shared-epoll"
        case "file":
            // A shell's redirection: all that is started writes there, each where the last one stopped.
            let all = uses.parent + uses.child
            if append == true || (fd <= 2 && all.allSatisfy { $0.contains("write") || $0.contains("put") || $0.contains("print") }) {
                return nil
            }
            return "shared-offset"
        default: return nil
        }
    }
}

/// An element of what `--json` prints.
struct HazardsLine: Decodable {
    struct Unguarded: Decodable {
        let forks, ok, hung, crashed, inside: Int
    }

    struct Guarded: Decodable {
        let forks, ok, refused, hung, crashed, inside: Int
    }

    let row: String
    let load: String
    let unguarded: Unguarded
    let guarded: Guarded
}

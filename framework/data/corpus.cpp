#include "framework/data/corpus.hpp"

#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <unordered_set>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t file_bytes_max = 64 << 20;
constexpr std::size_t document_bytes_min = 256;
constexpr std::size_t document_bytes_max = 262'144;  // above: tables and logs more than text
constexpr int depth_max = 12;

struct file {
  std::string name;  // below the folder that is walked
  std::string path;  // below the disk's root
};

/// Files below a folder whose names end so, sorted. A name with a dot is taken for a file, any other for a folder.
void walk(const storage& root, const std::string& folder, const std::string& below, std::string_view ending, int depth,
          std::vector<file>& out) {
  for (const std::string& entry : root.list(folder)) {
    const std::string name = below.empty() ? entry : below + "/" + entry;
    if (entry.ends_with(ending))
      out.push_back({name, folder + "/" + entry});
    else if (depth < depth_max && entry.find('.') == std::string::npos)
      walk(root, folder + "/" + entry, name, ending, depth + 1, out);
  }
}

expected<std::string> read_text(const storage& root, const std::string& path) {
  auto bytes = root.read(path, file_bytes_max);
  if (!bytes) return bytes.failure();
  std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  return is_utf8(text) ? text : latin1_to_utf8(text);
}

/// The inner folder of the newest version: the longest, then last of the folders named prefix* (1.19 is longer than 1.9).
std::string newest(const storage& root, const std::string& parent, std::string_view prefix, const std::string& inner) {
  std::string best;
  for (const std::string& entry : root.list(parent)) {
    const std::string folder = parent + "/" + entry + "/" + inner;
    if (entry.starts_with(prefix) && folder.size() >= best.size() && root.exists(folder)) best = folder;
  }
  return best;
}

using document_list = expected<std::vector<document>>;

document_list read_files(const storage& root, const std::string& folder, std::string_view ending) {
  std::vector<file> files;
  if (!folder.empty()) walk(root, folder, "", ending, 0, files);
  std::vector<document> documents;
  for (const file& f : files) {
    auto text = read_text(root, f.path);
    // A folder named like a file (Go's test data has one), a symbolic link (out of the package).
    if (!text && (text.error().code == errc::malformed || text.error().code == errc::refused)) continue;
    if (!text) return text.failure();
    documents.push_back({f.name, std::move(*text)});
  }
  return documents;
}

document_list read_perl(const storage& root) { return read_files(root, newest(root, "usr/share/perl", "5.", "pod"), ".pod"); }

document_list read_vim(const storage& root) { return read_files(root, newest(root, "usr/share/vim", "vim", "doc"), ".txt"); }

document_list read_python(const storage& root) { return read_files(root, newest(root, "usr/lib", "python3.", ""), ".py"); }

document_list read_go(const storage& root) {
  auto documents = read_files(root, newest(root, "usr/share", "go-1.", "src"), ".go");
  if (documents)
    std::erase_if(*documents,
                  [](const document& d) { return std::string_view(d.text).substr(0, 2048).find("DO NOT EDIT") != std::string_view::npos; });
  return documents;
}

/// One line of a WordNet data file as "word, word: gloss"; empty for the licence at its head.
std::string wordnet_line(std::string_view line) {
  const std::size_t bar = line.find(" | ");
  if (line.starts_with(' ') || bar == std::string_view::npos) return {};
  std::vector<std::string_view> fields;
  for (std::size_t at = 0; at < bar && fields.size() < 4 + 2 * 64;) {
    const std::size_t space = std::min(line.find(' ', at), bar);
    fields.push_back(line.substr(at, space - at));
    at = space + 1;
  }
  std::size_t words = 0;  // two hex digits
  if (fields.size() > 3 && fields[3].size() == 2)
    words = static_cast<std::size_t>(std::strtoul(std::string(fields[3]).c_str(), nullptr, 16));
  std::string out;
  for (std::size_t w = 0; w < words && 4 + 2 * w < fields.size(); ++w) out += (w > 0 ? ", " : "") + std::string(fields[4 + 2 * w]);
  std::replace(out.begin(), out.end(), '_', ' ');
  std::string_view gloss = line.substr(bar + 3);
  while (gloss.ends_with(' ')) gloss.remove_suffix(1);
  return out + ": " + std::string(gloss) + "\n";
}

/// Sixty-four definitions a document: neighbours in the file belong to one field of knowledge.
document_list read_wordnet(const storage& root) {
  std::vector<document> documents;
  for (const std::string part : {"adj", "adv", "noun", "verb"}) {
    const std::string path = "usr/share/wordnet/data." + part;
    if (!root.exists(path)) continue;
    auto text = read_text(root, path);
    if (!text) return text.failure();
    document next;
    std::size_t lines = 0;
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t end = std::min(text->find('\n', at), text->size());
      const std::string line = wordnet_line(std::string_view(*text).substr(at, end - at));
      at = end + 1;
      if (line.empty()) continue;
      if (next.text.empty()) next.name = fmt::format("{}/{:06}", part, lines);
      next.text += line;
      if (++lines % 64 == 0) documents.push_back(std::exchange(next, {}));
    }
    if (!next.text.empty()) documents.push_back(std::move(next));
  }
  return documents;
}

document_list read_source(const storage& root, std::string_view source) {
  if (source == "perl") return read_perl(root);
  if (source == "vim") return read_vim(root);
  if (source == "wordnet") return read_wordnet(root);
  if (source == "python") return read_python(root);
  return read_go(root);
}

std::uint64_t key_of(std::string_view text) { return hash_bytes(std::as_bytes(std::span(text))).low; }

/// Keeps documents by hash of their names until the bytes are used up.
void sample(std::vector<document>& documents, std::uint64_t bytes_max) {
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t i = 0; i < documents.size(); ++i) order.emplace_back(key_of(documents[i].name), i);
  std::sort(order.begin(), order.end());
  std::vector<bool> kept(documents.size(), false);
  for (std::uint64_t bytes = 0; const auto& [key, i] : order) {
    if (documents[i].text.size() > bytes_max - bytes) break;
    bytes += documents[i].text.size();
    kept[i] = true;
  }
  std::size_t i = 0;
  std::erase_if(documents, [&](const document&) { return !kept[i++]; });
}

}  // namespace

const std::vector<corpus_source>& corpus_sources() {
  static const std::vector<corpus_source> sources{
      {"perl", "manuals of a programming language", "perl-doc", "GPL-1+ or Artistic"},
      {"vim", "manuals of an editor", "vim-runtime", "Vim licence"},
      {"wordnet", "definitions of English words", "wordnet-base", "WordNet licence (BSD-like)"},
      {"python", "source code of a scripting language", "libpython3-stdlib", "PSF"},
      {"go", "source code of a compiled language", "golang-src", "BSD-3-clause"},
  };
  return sources;
}

expected<corpus_source> find_source(std::string_view name) {
  std::string known;
  for (const corpus_source& s : corpus_sources()) {
    if (s.name == name) return s;
    known += (known.empty() ? "" : ", ") + s.name;
  }
  return fail(errc::recipe_invalid, fmt::format("corpus: no source '{}'; known are {}", name.substr(0, 80), known));
}

expected<std::vector<document>> build_corpus(const storage& root, std::string_view source, std::uint64_t bytes_max) {
  const auto about = find_source(source);
  if (!about) return about.failure();
  auto documents = read_source(root, source);
  if (!documents) return documents.failure();
  if (documents->empty())
    return fail(errc::environment, fmt::format("corpus: source '{0}' needs the package {1}, which is not installed: apt-get install -y {1}",
                                               about->name, about->package));
  std::sort(documents->begin(), documents->end(), [](const document& a, const document& b) { return a.name < b.name; });
  std::unordered_set<std::string> seen;
  std::erase_if(*documents, [&](const document& d) {
    const hash128 h = hash_bytes(std::as_bytes(std::span(d.text)));
    return d.text.size() < document_bytes_min || (d.text.size() > document_bytes_max && (source == "go" || source == "python")) ||
           !seen.insert(h.hex()).second;
  });
  sample(*documents, bytes_max);
  return documents;
}

hash128 hash_documents(std::span<const document> documents) {
  hash128 h;
  for (const document& d : documents)
    for (const std::string* part : {&d.name, &d.text}) h = hash_chain(h, hash_bytes(std::as_bytes(std::span(*part))));
  return h;
}

std::vector<document> deal(std::span<const document> documents, std::uint32_t sites, std::uint32_t site) {
  ensure(site < sites, "deal: no such site");
  std::vector<std::size_t> order(documents.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return documents[a].text.size() > documents[b].text.size(); });
  std::vector<std::uint64_t> bytes(sites, 0);
  std::vector<bool> mine(documents.size(), false);
  for (const std::size_t i : order) {
    const auto lightest = std::min_element(bytes.begin(), bytes.end());
    *lightest += documents[i].text.size();
    mine[i] = lightest - bytes.begin() == static_cast<std::ptrdiff_t>(site);
  }
  std::vector<document> hand;
  for (std::size_t i = 0; i < documents.size(); ++i)
    if (mine[i]) hand.push_back(documents[i]);
  return hand;
}

}  // namespace isthmus

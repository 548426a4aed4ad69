#include "framework/metrics/run_store.hpp"

#include "framework/metrics/sqlite.hpp"
#include "framework/metrics/tables.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <deque>
#include <filesystem>
#include <type_traits>

namespace isthmus {

namespace {

using tables::table;

constexpr std::size_t waiting_max = 20'000;
constexpr int busy_ms = 250;

template <class T>
const char* sql_type() {
  if constexpr (std::is_same_v<T, double>)
    return "REAL";
  else if constexpr (std::is_same_v<T, std::string>)
    return "TEXT";
  else
    return "INTEGER";
}

template <class Row>
std::string create_sql() {
  Row row;
  std::string columns;
  table<Row>::columns(row, [&]<class T>(const char* name, T&) {
    const bool row_id = table<Row>::key == nullptr && columns.empty();
    columns += fmt::format("{} {}{}, ", name, sql_type<T>(), row_id ? " PRIMARY KEY AUTOINCREMENT" : "");
  });
  if (table<Row>::key == nullptr)
    columns.resize(columns.size() - 2);
  else
    columns += table<Row>::key;
  return fmt::format("CREATE TABLE IF NOT EXISTS {} ({});", table<Row>::name, columns);
}

template <class Row>
std::string column_names(int* count = nullptr) {
  Row row;
  std::string names;
  table<Row>::columns(row, [&](const char* name, auto&) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
    if (count != nullptr) ++*count;
  });
  return names;
}

template <class Row>
std::string insert_sql() {
  int count = 0;
  const auto names = column_names<Row>(&count);
  std::string marks;
  for (int i = 0; i < count; ++i) marks += i == 0 ? "?" : ", ?";
  return fmt::format("INSERT OR REPLACE INTO {} ({}) VALUES ({})", table<Row>::name, names, marks);
}

/// Calls f.template operator()<Row>() for every row type.
template <std::size_t I = 0, class F>
void for_each_table(F&& f) {
  if constexpr (I < std::variant_size_v<store_row>) {
    f.template operator()<std::variant_alternative_t<I, store_row>>();
    for_each_table<I + 1>(f);
  }
}

}  // namespace

// --- writing -----------------------------------------------------------------------------------------------------------------

struct run_store_writer::impl {
  std::string path;
  sqlite::connection db;
  std::deque<store_row> waiting;
  store_health health;

  bool failed(int result, const char* doing) {
    health.last_error = fmt::format("{}: {} ({})", path, db.is_open() ? db.message() : sqlite3_errstr(result), doing);
    if (db.is_open()) db.execute("ROLLBACK");
    if (result != SQLITE_BUSY && result != SQLITE_LOCKED) db.close();  // opened afresh next time
    return false;
  }

  bool open() {
    if (db.is_open()) return true;
    if (const int result = db.open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, busy_ms); result != SQLITE_OK)
      return failed(result, "opening");
    if (const int result = db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"); result != SQLITE_OK)
      return failed(result, "opening");
    const auto found = db.number("PRAGMA user_version");
    if (found == tables::version) return true;
    if (found > tables::version) {
      health.last_error = fmt::format("{}: made by a newer version (schema {}, this one knows {})", path, found, tables::version);
      db.close();
      return false;
    }
    std::string schema = "BEGIN IMMEDIATE;";
    for_each_table([&]<class Row>() { schema += create_sql<Row>(); });
    schema += fmt::format("PRAGMA user_version = {}; COMMIT", tables::version);
    const int result = db.execute(schema);
    return result == SQLITE_OK || failed(result, "making tables");
  }

  template <class Row>
  int write(const Row& row) {
    sqlite::statement insert(db, insert_sql<Row>());
    if (insert.result() != SQLITE_OK) return insert.result();
    bool first = true;
    table<Row>::columns(row, [&](const char*, const auto& value) {
      if (table<Row>::key == nullptr && std::exchange(first, false))
        insert.bind_null();  // the store gives the number
      else
        insert.bind(value);
    });
    const int result = insert.step();
    return result == SQLITE_DONE ? SQLITE_OK : result;
  }
};

run_store_writer::run_store_writer(std::string path) : impl_(std::make_unique<impl>()) { impl_->path = std::move(path); }
run_store_writer::~run_store_writer() { flush(); }

void run_store_writer::put(store_row row) {
  if (impl_->waiting.size() >= waiting_max) {
    impl_->waiting.pop_front();
    ++impl_->health.dropped;
  }
  impl_->waiting.push_back(std::move(row));
}

bool run_store_writer::flush() {
  auto& s = *impl_;
  if (s.waiting.empty()) return true;
  if (!s.open()) return false;
  if (const int result = s.db.execute("BEGIN IMMEDIATE"); result != SQLITE_OK) return s.failed(result, "beginning");
  for (const auto& row : s.waiting)
    if (const int result = std::visit([&](const auto& r) { return s.write(r); }, row); result != SQLITE_OK)
      return s.failed(result, "writing");
  if (const int result = s.db.execute("COMMIT"); result != SQLITE_OK) return s.failed(result, "committing");
  s.health.written += s.waiting.size();
  s.health.last_error.clear();
  s.waiting.clear();
  return true;
}

store_health run_store_writer::health() const {
  auto out = impl_->health;
  out.waiting = impl_->waiting.size();
  return out;
}

// --- reading -----------------------------------------------------------------------------------------------------------------

struct run_store_reader::impl {
  std::string path;
  sqlite::connection db;

  unexpected failure(int result) const {
    const auto code = result == SQLITE_CORRUPT || result == SQLITE_NOTADB ? errc::malformed : errc::io_failed;
    return fail(code, fmt::format("run store {}: {}; the ledgers and checkpoints beside it are untouched", path, db.message()));
  }

  template <class Row>
  expected<std::vector<Row>> rows(const std::string& where = "1") const {
    sqlite::statement query(
        db, fmt::format("SELECT {} FROM {} WHERE {} ORDER BY {}", column_names<Row>(), table<Row>::name, where, table<Row>::order));
    std::vector<Row> out;
    if (query.result() != SQLITE_OK) return failure(query.result());
    while (query.step() == SQLITE_ROW) table<Row>::columns(out.emplace_back(), [&](const char*, auto& value) { query.read(value); });
    if (query.result() != SQLITE_DONE) return failure(query.result());
    return out;
  }
};

namespace {

/// The path as SQLite's file: URI; immutable: for a folder in which not even the reader's shared memory file can be made.
std::string as_uri(const std::string& path, bool immutable) {
  std::string out = "file:";
  for (const char c : path)
    out += c == '?' || c == '#' || c == '%' ? fmt::format("%{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
  return out + (immutable ? "?immutable=1" : "");
}

}  // namespace

expected<run_store_reader> run_store_reader::open(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return fail(errc::not_found, fmt::format("no run store at {}", path));
  if (!std::filesystem::is_regular_file(path, ignored)) return fail(errc::malformed, fmt::format("{} is no regular file", path));
  auto state = std::make_unique<impl>();
  state->path = path;
  constexpr int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
  std::int64_t found = -1;
  for (const bool immutable : {false, true}) {
    if (const int result = state->db.open(as_uri(path, immutable), flags, 1000); result != SQLITE_OK && immutable)
      return fail(errc::io_failed, fmt::format("cannot open the run store {}: {}", path, sqlite3_errstr(result)));
    if (!state->db.is_open()) continue;
    sqlite::statement query(state->db, "PRAGMA user_version");
    if (query.result() == SQLITE_OK && query.step() == SQLITE_ROW) query.read(found);
    if (query.result() == SQLITE_ROW) break;
    if (query.result() != SQLITE_CANTOPEN && query.result() != SQLITE_READONLY) return state->failure(query.result());
    if (std::filesystem::file_size(path + "-wal", ignored) > 0 && !ignored)  // an immutable store is read without it
      return fail(errc::io_failed, fmt::format("the run store {0} cannot be opened read-only together with its write-ahead log {0}-wal: "
                                               "copy the folder to a writable place and look there",
                                               path));
  }
  if (found > tables::version)
    return fail(errc::unsupported,
                fmt::format("run store {} was made by a newer version (schema {}, this one knows {})", path, found, tables::version));
  if (found < 1) return fail(errc::malformed, fmt::format("{} is no run store (schema version {})", path, found));
  return run_store_reader(std::move(state));
}

run_store_reader::run_store_reader(std::unique_ptr<impl> state) : impl_(std::move(state)) {}
run_store_reader::run_store_reader(run_store_reader&&) noexcept = default;
run_store_reader& run_store_reader::operator=(run_store_reader&&) noexcept = default;
run_store_reader::~run_store_reader() = default;

expected<run_row> run_store_reader::run() const {
  auto rows = impl_->rows<run_row>();
  if (!rows) return rows.failure();
  if (rows->empty()) return fail(errc::not_found, fmt::format("run store {} names no run yet", impl_->path));
  return rows->front();
}

expected<std::vector<site_row>> run_store_reader::sites() const { return impl_->rows<site_row>(); }
expected<std::vector<link_row>> run_store_reader::links() const { return impl_->rows<link_row>(); }
expected<std::vector<sample_row>> run_store_reader::samples(double after_wall) const {
  return impl_->rows<sample_row>(fmt::format("wall > {:.17g}", after_wall));
}
expected<std::vector<round_row>> run_store_reader::rounds(round_number after) const {
  return impl_->rows<round_row>(fmt::format("round > {}", after));
}
expected<std::vector<event_row>> run_store_reader::events(std::int64_t after_number) const {
  return impl_->rows<event_row>(fmt::format("number > {}", after_number));
}
expected<std::vector<checkpoint_row>> run_store_reader::checkpoints() const { return impl_->rows<checkpoint_row>(); }
expected<std::vector<evaluation_row>> run_store_reader::evaluations() const { return impl_->rows<evaluation_row>(); }

bool set_aside_when_damaged(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  {
    sqlite::connection db;
    if (db.open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, 1000) == SQLITE_OK) {
      sqlite::statement check(db, "PRAGMA quick_check(1)");
      std::string verdict;
      if (check.result() == SQLITE_OK && check.step() == SQLITE_ROW) check.read(verdict);
      if (verdict == "ok" || check.result() == SQLITE_BUSY) return false;
    }
  }
  std::string aside;
  for (int n = 1; aside.empty() || fs::exists(aside, error); ++n) aside = fmt::format("{}.damaged-{}", path, n);
  fs::rename(path, aside, error);
  const bool moved = !error;
  for (const char* suffix : {"-wal", "-shm"}) fs::rename(path + suffix, aside + suffix, error);
  return moved;
}

}  // namespace isthmus

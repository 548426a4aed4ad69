#pragma once

#include <cstdint>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

/// As much of SQLite as the run store needs, with owners. Results are SQLite's own codes; nothing throws.
namespace isthmus::sqlite {

class connection {
public:
  connection() = default;
  ~connection() { close(); }
  connection(connection&& other) noexcept : db_(other.db_) { other.db_ = nullptr; }
  connection& operator=(connection&& other) noexcept;

  /// flags: SQLITE_OPEN_...; path may be a file: URI when flags say so.
  int open(const std::string& path, int flags, int busy_ms);
  void close();
  bool is_open() const { return db_ != nullptr; }
  int execute(const std::string& sql);
  /// First column of the first row; -1 when there is none.
  std::int64_t number(const std::string& sql);
  std::string message() const;
  sqlite3* get() const { return db_; }

private:
  sqlite3* db_ = nullptr;
};

class statement {
public:
  statement(const connection& db, const std::string& sql);
  ~statement();
  statement(const statement&) = delete;
  statement& operator=(const statement&) = delete;

  int result() const { return result_; }  // of preparing or of the last step
  int step();
  void reset();

  // Columns and parameters in order, each call the next one.
  void bind(std::int64_t value);
  void bind(std::uint64_t value) { bind(static_cast<std::int64_t>(value)); }
  void bind(std::uint32_t value) { bind(static_cast<std::int64_t>(value)); }
  void bind(double value);
  void bind(const std::string& value);
  void bind_null();
  void read(std::int64_t& value);
  void read(std::uint64_t& value);
  void read(std::uint32_t& value);
  void read(double& value);  // a null is not a number
  void read(std::string& value);

private:
  sqlite3_stmt* statement_ = nullptr;
  int result_ = 0;
  int next_ = 0;
};

}  // namespace isthmus::sqlite

#include "framework/metrics/sqlite.hpp"

#include <sqlite3.h>

#include <limits>
#include <utility>

namespace isthmus::sqlite {

connection& connection::operator=(connection&& other) noexcept {
  std::swap(db_, other.db_);
  return *this;
}

int connection::open(const std::string& path, int flags, int busy_ms) {
  close();
  const int result = sqlite3_open_v2(path.c_str(), &db_, flags, nullptr);
  if (result != SQLITE_OK) {
    close();
    return result;
  }
  sqlite3_extended_result_codes(db_, 0);
  return sqlite3_busy_timeout(db_, busy_ms);
}

void connection::close() {
  if (db_ != nullptr) sqlite3_close_v2(db_);
  db_ = nullptr;
}

int connection::execute(const std::string& sql) { return sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); }

std::int64_t connection::number(const std::string& sql) {
  statement query(*this, sql);
  std::int64_t value = -1;
  if (query.result() == SQLITE_OK && query.step() == SQLITE_ROW) query.read(value);
  return value;
}

std::string connection::message() const { return db_ != nullptr ? sqlite3_errmsg(db_) : "not open"; }

statement::statement(const connection& db, const std::string& sql) {
  result_ = sqlite3_prepare_v2(db.get(), sql.c_str(), static_cast<int>(sql.size()), &statement_, nullptr);
}

statement::~statement() { sqlite3_finalize(statement_); }

int statement::step() {
  next_ = 0;
  return result_ = sqlite3_step(statement_);
}

void statement::reset() {
  sqlite3_reset(statement_);
  next_ = 0;
}

void statement::bind(std::int64_t value) { sqlite3_bind_int64(statement_, ++next_, value); }
void statement::bind(double value) { sqlite3_bind_double(statement_, ++next_, value); }
void statement::bind(const std::string& value) {
  sqlite3_bind_text(statement_, ++next_, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
}
void statement::bind_null() { sqlite3_bind_null(statement_, ++next_); }

void statement::read(std::int64_t& value) { value = sqlite3_column_int64(statement_, next_++); }
void statement::read(std::uint64_t& value) { value = static_cast<std::uint64_t>(sqlite3_column_int64(statement_, next_++)); }
void statement::read(std::uint32_t& value) { value = static_cast<std::uint32_t>(sqlite3_column_int64(statement_, next_++)); }
void statement::read(double& value) {
  value = sqlite3_column_type(statement_, next_) == SQLITE_NULL ? std::numeric_limits<double>::quiet_NaN()
                                                                : sqlite3_column_double(statement_, next_);
  ++next_;
}
void statement::read(std::string& value) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, next_));
  const auto bytes = sqlite3_column_bytes(statement_, next_++);
  value.assign(text != nullptr ? text : "", text != nullptr ? static_cast<std::size_t>(bytes) : 0);
}

}  // namespace isthmus::sqlite

#include "framework/core/json.hpp"

#include <nlohmann/json.hpp>

#include <vector>

namespace isthmus {

namespace {

using json = nlohmann::json;

/// Builds the value and refuses what the plain parser would swallow. Ends the parse at the first fault.
class strict_reader final : public nlohmann::json_sax<json> {
public:
  explicit strict_reader(std::size_t depth_max) : depth_max_(depth_max) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name)) return refuse("key \"" + name.substr(0, 80) + "\" stands twice in one object");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    std::string what = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (const auto at = what.find(": "); at != std::string::npos) what.erase(0, at + 2);
    return refuse("byte " + std::to_string(position) + ": " + what.substr(0, 200));
  }

  json root;
  std::string fault;

private:
  bool refuse(std::string what) {
    fault = std::move(what);
    return false;
  }
  json* place(json value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    return &((*open_.back())[key_] = std::move(value));
  }
  bool put(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json value) {
    if (open_.size() == depth_max_) return refuse("nested deeper than " + std::to_string(depth_max_) + " levels");
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t depth_max_;
  std::vector<json*> open_;  // the objects and arrays around us; a parent does not grow while its child is open
  std::string key_;
};

}  // namespace

expected<json> parse_json(std::string_view text, const std::string& where, std::size_t depth_max) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") return fail(errc::malformed, where + ": begins with a byte-order mark, expected plain UTF-8");
  if (const std::size_t at = text.find('\0'); at != std::string_view::npos)  // the parser would take it for the end
    return fail(errc::malformed, where + ": not valid JSON: byte " + std::to_string(at + 1) + ": a NUL character");
  strict_reader reader(depth_max);
  if (!json::sax_parse(text.begin(), text.end(), &reader)) return fail(errc::malformed, where + ": not valid JSON: " + reader.fault);
  return std::move(reader.root);
}

const json& value_at(const json& object, const std::string& name) {
  static const json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string excerpt(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

}  // namespace isthmus

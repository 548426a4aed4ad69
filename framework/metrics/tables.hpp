#pragma once

#include "framework/metrics/run_store.hpp"

/// The store's tables: for each row type its name, its key, and its columns in order. Writer, reader and schema derive from them.
namespace isthmus::tables {

inline constexpr int version = 1;

template <class Row>
struct table;

template <>
struct table<run_row> {
  static constexpr const char *name = "run", *key = "PRIMARY KEY (id)", *order = "updated DESC";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("id", r.id), f("name", r.name), f("recipe_hash", r.recipe_hash), f("state", r.state), f("message", r.message);
    f("planned_tokens", r.planned_tokens), f("planned_rounds", r.planned_rounds), f("parameters", r.parameters);
    f("started", r.started), f("updated", r.updated), f("launcher_pid", r.launcher_pid), f("trained_seconds", r.trained_seconds);
    f("faults_fired", r.faults_fired), f("restarts", r.restarts);
  }
};

template <>
struct table<site_row> {
  static constexpr const char *name = "sites", *key = "PRIMARY KEY (site)", *order = "site";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("site", r.site), f("name", r.name), f("incarnation", r.incarnation), f("state", r.state), f("devices", r.devices);
    f("devices_wanted", r.devices_wanted), f("step", r.step), f("tokens", r.tokens), f("epoch", r.epoch), f("round", r.round);
    f("loss", r.loss), f("tokens_per_second", r.tokens_per_second), f("wall", r.wall);
  }
};

template <>
struct table<sample_row> {
  static constexpr const char *name = "samples", *key = "PRIMARY KEY (site, step)", *order = "wall, site, step";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("site", r.site), f("step", r.step), f("tokens", r.tokens), f("loss", r.loss), f("learning_rate", r.learning_rate);
    f("gradient_norm", r.gradient_norm), f("tokens_per_second", r.tokens_per_second), f("wall", r.wall);
  }
};

template <>
struct table<round_row> {
  static constexpr const char *name = "rounds", *key = "PRIMARY KEY (\"group\", round)", *order = "round, \"group\"";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("\"group\"", r.group), f("round", r.round), f("epoch", r.epoch), f("home", r.home), f("contributors", r.contributors);
    f("tokens", r.tokens), f("delta_bytes", r.delta_bytes), f("seconds", r.seconds), f("anchor_hash", r.anchor_hash), f("wall", r.wall);
  }
};

template <>
struct table<link_row> {
  static constexpr const char *name = "links", *key = "PRIMARY KEY (site, peer)", *order = "site, peer";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("site", r.site), f("peer", r.peer), f("state", r.state), f("round_trip_seconds", r.round_trip_seconds);
    f("send_bytes_per_second", r.send_bytes_per_second), f("bytes_out", r.bytes_out), f("bytes_in", r.bytes_in);
    f("payload_out", r.payload_out), f("payload_in", r.payload_in), f("in_flight", r.in_flight), f("reconnects", r.reconnects);
    f("wall", r.wall);
  }
};

template <>
struct table<event_row> {
  static constexpr const char *name = "events", *key = nullptr, *order = "number";  // number is the row id
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("number", r.number), f("who", r.who), f("kind", r.kind), f("text", r.text), f("wall", r.wall);
  }
};

template <>
struct table<checkpoint_row> {
  static constexpr const char *name = "checkpoints", *key = "PRIMARY KEY (site, round)", *order = "round, site";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("site", r.site), f("round", r.round), f("step", r.step), f("folder", r.folder), f("bytes", r.bytes), f("seconds", r.seconds);
    f("wall", r.wall);
  }
};

template <>
struct table<evaluation_row> {
  static constexpr const char *name = "evaluations", *key = "PRIMARY KEY (site, round)", *order = "round, site";
  template <class Self, class F>
  static void columns(Self& r, F&& f) {
    f("site", r.site), f("round", r.round), f("run_tokens", r.run_tokens), f("domain", r.domain), f("loss", r.loss);
    f("unigram_entropy", r.unigram_entropy), f("tokens", r.tokens), f("wall", r.wall);
  }
};

}  // namespace isthmus::tables

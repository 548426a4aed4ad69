# Finds the Cap'n Proto library (libcapnp, libkj) for those who only link it: its own CMake package wants OpenSSL, and in projects
# without the language C it fails. Gives the imported target Capnp::capnp.
find_path(CAPNP_INCLUDE_DIR capnp/message.h)
find_library(CAPNP_LIBRARY capnp)
find_library(KJ_LIBRARY kj)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Capnp REQUIRED_VARS CAPNP_LIBRARY KJ_LIBRARY CAPNP_INCLUDE_DIR)
if(Capnp_FOUND AND NOT TARGET Capnp::capnp)
  add_library(Capnp::capnp UNKNOWN IMPORTED)
  find_package(Threads REQUIRED)
  set_target_properties(Capnp::capnp PROPERTIES IMPORTED_LOCATION ${CAPNP_LIBRARY} INTERFACE_LINK_LIBRARIES "${KJ_LIBRARY};Threads::Threads"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${CAPNP_INCLUDE_DIR} INTERFACE_INCLUDE_DIRECTORIES ${CAPNP_INCLUDE_DIR})
endif()
mark_as_advanced(CAPNP_INCLUDE_DIR CAPNP_LIBRARY KJ_LIBRARY)

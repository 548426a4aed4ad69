# What `cmake --install` copies beside the libraries and the program: public headers, shipped recipes, and the CMake package.
include(CMakePackageConfigHelpers)

# Headers that only our own sources include stay at home.
set(isthmus_private_headers
  "kernels/cpu/" "kernels/cuda/(attention_hopper|blas|ops|queue|tensor_map)\\.hpp$" "kernels/reference/(math|ops)\\.hpp$"
  "framework/wire/frame\\.hpp$" "framework/recipe/(collector|section_reader)\\.hpp$" "framework/formats/(gguf_cursor|guarded_copy|hf_families|hf_keys)\\.hpp$"
  "framework/transport/(address|bulk_receiver|bulk_sender|byte_io|chunk_header|control_connection|etcd_client|etcd_log|greeting|http_post|ucx_worker|wire_site)\\.hpp$"
  "actors/(group|link|overloaded|process|services|shard|site_start|site_state|spread|trainer|wire_events)\\.hpp$")
set(isthmus_private_arguments)
foreach(pattern IN LISTS isthmus_private_headers)
  list(APPEND isthmus_private_arguments REGEX "/${pattern}" EXCLUDE)
endforeach()
set(isthmus_header_folders kernels framework)
if(ISTHMUS_ACTORS)
  list(APPEND isthmus_header_folders actors)
endif()
install(DIRECTORY ${isthmus_header_folders} DESTINATION include/isthmus FILES_MATCHING PATTERN "*.hpp" ${isthmus_private_arguments})
install(DIRECTORY recipes/ DESTINATION share/isthmus/recipes FILES_MATCHING PATTERN "*.toml")  # launcher/recipes.cpp looks there

set(isthmus_package ${CMAKE_INSTALL_LIBDIR}/cmake/Isthmus)
get_property(isthmus_dependencies GLOBAL PROPERTY ISTHMUS_DEPENDENCIES)
list(REMOVE_DUPLICATES isthmus_dependencies)
string(REPLACE ";" "\n" ISTHMUS_DEPENDENCIES "${isthmus_dependencies}")
get_property(isthmus_components GLOBAL PROPERTY ISTHMUS_COMPONENTS)
string(REPLACE ";" " " ISTHMUS_COMPONENTS "${isthmus_components}")
configure_package_config_file(cmake/IsthmusConfig.cmake.in ${PROJECT_BINARY_DIR}/package/IsthmusConfig.cmake
                              INSTALL_DESTINATION ${isthmus_package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/IsthmusConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/IsthmusConfig.cmake ${PROJECT_BINARY_DIR}/package/IsthmusConfigVersion.cmake
              cmake/FindCAF.cmake cmake/FindCapnp.cmake cmake/FindDNNL.cmake cmake/FindHighway.cmake cmake/FindSodium.cmake cmake/FindUCX.cmake cmake/FindXXHash.cmake
        DESTINATION ${isthmus_package})
install(EXPORT IsthmusTargets NAMESPACE Isthmus:: DESTINATION ${isthmus_package})
if(TARGET isthmus_testing)
  install(EXPORT IsthmusTestingTargets NAMESPACE Isthmus:: DESTINATION ${isthmus_package})
endif()

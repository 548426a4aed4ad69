# Flags and helpers shared by every target of the project.

# isthmus_flags(target): warnings, and the floating-point rules that let every site compute the same bits:
# no contraction behind our back (an fma is written as one), no reassociation.
function(isthmus_flags target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-ffp-contract=off>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)  # false reports on std::string, GCC bug 105651
  endif()
  if(ISTHMUS_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
  endif()
  if(ISTHMUS_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${ISTHMUS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize=null)
    target_link_options(${target} PUBLIC -fsanitize=${ISTHMUS_SANITIZE})
  endif()
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                              $<INSTALL_INTERFACE:include/isthmus>)
endfunction()

# isthmus_find(package arguments...): find_package, REQUIRED, here and in the installed package (cmake/IsthmusConfig.cmake.in).
macro(isthmus_find)
  find_package(${ARGV} REQUIRED)
  string(REPLACE ";" " " isthmus_find_arguments "${ARGV}")
  set_property(GLOBAL APPEND PROPERTY ISTHMUS_DEPENDENCIES "find_dependency(${isthmus_find_arguments})")
endmacro()

# isthmus_install(target name): users of the installed package link Isthmus::<name>.
function(isthmus_install target name)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY ISTHMUS_COMPONENTS ${name})
  install(TARGETS ${target} EXPORT IsthmusTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# isthmus_test(name sources... [LIBS libs...] [TIMEOUT seconds]): one Boost.Test program, one ctest entry.
function(isthmus_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "LIBS;LABELS" ${ARGN})
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/main.cpp ${arg_UNPARSED_ARGUMENTS})
  isthmus_flags(${name})
  target_compile_definitions(${name} PRIVATE BOOST_TEST_DYN_LINK)
  target_link_libraries(${name} PRIVATE ${arg_LIBS} Boost::unit_test_framework)
  add_test(NAME ${name} COMMAND ${name} --log_level=warning --color_output=no
           WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()

# isthmus_bench(name sources... [LIBS libs...])
function(isthmus_bench name)
  cmake_parse_arguments(arg "" "" "LIBS" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  isthmus_flags(${name})
  target_link_libraries(${name} PRIVATE ${arg_LIBS})
endfunction()
